"""The table of reasons, the page made from it, and the code that uses it agree."""

from __future__ import annotations

import ast
from pathlib import Path

from streams import reasons_doc
from streams.core.reasons import REASONS, RULES, sentence

STREAMS = Path(reasons_doc.__file__).parent
USERS = [
    path
    for folder in ("core", "agents")
    for path in sorted((STREAMS / folder).glob("*.py"))
    if path.name != "reasons.py"
]
PLACE_OF_CODE = {
    "conclude": 2, "end": 3, "note": 1, "note_about": 1, "hold": 2, "bury": 1, "Fault": 0,
    "conclude_delivery": 3, "give_up": 2, "DeadLetter": 0,
}  # fmt: skip
"""Call -> position of the argument that is a reason code."""


def constants(path: Path) -> set[str]:
    """Every text in a module."""
    tree = ast.parse(path.read_text())
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def codes_in_calls(path: Path) -> set[str]:
    """Every literal reason code that a module gives."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
        place = PLACE_OF_CODE.get(str(name))
        if place is not None and len(node.args) > place:
            code = node.args[place]
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                found.add(code.value)
    return found


def test_the_page_is_what_the_table_says() -> None:
    assert reasons_doc.PAGE.read_text() == reasons_doc.page(), "run python -m streams.reasons_doc"


def test_every_code_that_a_rule_gives_is_in_the_table() -> None:
    core = [path for path in USERS if path.parent.name == "core"]
    given = set().union(*(codes_in_calls(path) for path in core))
    assert len(given) > 30, "the search finds nothing"
    assert given <= set(REASONS)


def test_every_code_in_the_table_is_used() -> None:
    used = set().union(*(constants(path) for path in USERS))
    assert set(REASONS) <= used


def test_each_rule_is_one_section_of_the_page() -> None:
    rules = [line for line in reasons_doc.page().splitlines() if line.startswith("## ")]
    assert len(rules) == len(set(rules))
    assert set(RULES) == set(REASONS)


def test_a_sentence_never_raises() -> None:
    assert sentence("rate_limited", {"limit": "3 per day"}) == "The limit 3 per day was used up."
    assert sentence("rate_limited", {}) == "The limit [limit] was used up."
    assert sentence("of_tomorrow", {}) == "of_tomorrow"
