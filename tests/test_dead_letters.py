"""The table of dead letters' reasons and the code that gives them agree."""

from __future__ import annotations

import ast
from pathlib import Path

from streams import dead_letters, reasons_doc
from streams.dead_letters import CAUSES

STREAMS = Path(dead_letters.__file__).parent
GIVERS = [*(STREAMS / "core").glob("*.py"), *(STREAMS / "agents").glob("*.py")]
READERS = [STREAMS / "codec.py", STREAMS / "wire" / "known.py"]
PLACE_OF_CODE = {
    "Fault": 0, "bury": 1, "give_up": 2, "DeadLetter": 0, "DecodeError": 0, "_refusing": 0,
}  # fmt: skip
"""Call -> position of the argument that is a reason code."""


def codes_given(path: Path) -> set[str]:
    """Every literal code that a module gives: in calls, and in pairs that it returns."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        code: ast.expr | None = None
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            place = PLACE_OF_CODE.get(str(name), len(node.args))
            code = node.args[place] if place < len(node.args) else None
        elif path in READERS and isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            code = node.value.elts[0]
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            found.add(code.value)
    return found


def test_every_code_that_is_given_is_in_the_table_and_no_other() -> None:
    given = set().union(*map(codes_given, [*GIVERS, *READERS]))
    assert given == set(CAUSES)


def test_each_is_on_the_page_with_whose_it_is_and_what_redrive_does() -> None:
    _, _, part = reasons_doc.page().partition("## Dead letters")
    rows = {line.split("`")[1]: line for line in part.splitlines() if line.startswith("| `")}
    assert set(rows) == set(CAUSES)
    for code, row in rows.items():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 4, code
        assert all(cells), code
