"""Every variable that the project itself sets or reads is a setting, or is said to be none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.configuration.environment import READ_ELSEWHERE, settings_in, stranger_problems
from streams.settings import SettingsError, load

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"FLOWSTATE_[A-Z][A-Z0-9_]*[A-Z0-9]")
EXAMPLES = frozenset(
    {
        "FLOWSTATE_SECTION__KEY",  # how documents write one of any name
    }
)
PLACES = ("streams", "tests", "benchmarks", "deploy", "docs", "examples", "*.*", "Makefile")
KINDS = frozenset({".py", ".sh", ".md", ".toml", ".yml", ".yaml", ""})
HERE = frozenset({"test_environment.py", "environment.py", "test_settings.py", "test_document.py"})
"""Where names are written because they are wrong, or because they are no settings."""


def names_in_the_project() -> list[str]:
    found: set[str] = set()
    for place in (place for pattern in PLACES for place in ROOT.glob(pattern)):
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.is_file() and path.suffix in KINDS and path.name not in HERE:
                found.update(NAME.findall(path.read_text(encoding="utf-8", errors="replace")))
    return sorted(found - EXAMPLES)


@pytest.mark.parametrize("name", names_in_the_project())
def test_what_the_project_sets_does_not_break_a_start(name: str, tmp_path: Path) -> None:
    """Its value may be wrong here; its name may not."""
    path = tmp_path / "flowstate.toml"
    path.write_text("[categories.message]\n")
    said = ""
    try:
        load(path, {}, {name: "x"})
    except SettingsError as error:
        said = str(error)
    assert "is no setting" not in said
    assert "is not a key here" not in said


def test_which_key_a_variable_sets() -> None:
    environment = dict.fromkeys(
        ("FLOWSTATE_A__B__C", "FLOWSTATE_CLOCK", "FLOWSTATE_OTHER", "FLOWSTATE_", "A__B"), ""
    )
    assert dict(settings_in(environment, {"clock"})) == {
        "FLOWSTATE_A__B__C": ("a", "b", "c"),
        "FLOWSTATE_CLOCK": ("clock",),
    }


def test_strangers_are_those_that_nobody_else_reads() -> None:
    environment = {
        **dict.fromkeys(READ_ELSEWHERE, "1"),
        "FLOWSTATE_TAKEN": "1",
        "FLOWSTATE_DELIVER_PORT": "tcp://10.0.0.7:6066",
        "FLOWSTATE_SERVICE_HOST": "10.0.0.7",
        "FLOWSTATE_API_PORT": "8080",
        "OTHER": "1",
    }
    (found,) = stranger_problems(environment, {"FLOWSTATE_TAKEN"}, [("api", "port"), ("clock",)])
    assert found.key == "FLOWSTATE_API_PORT"
    assert found.expected == 'is no setting; did you mean "FLOWSTATE_API__PORT"?'
