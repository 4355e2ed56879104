"""Lines, precedence and interpolation of what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.configuration.document import lines_of, read_document, written_at
from streams.configuration.problems import SettingsError

TEXT = '''\
top = 1 # comment with = and [brackets]

[kafka] # cluster
bootstrap = "a:1"
"odd key" = 2
nested.inner = 3
text = """
[not.a.table]
fake = 1
"""
after = 4

[[limits]]
scope = "x"
[[limits]]
scope = "y"
  [limits.more]
  deep = 1

[categories."A b".digest]
mode = "window"
'''


def test_lines_of_keys_and_tables() -> None:
    lines = lines_of(TEXT)
    assert lines["top",] == 1
    assert lines["kafka",] == 3
    assert lines["kafka", "bootstrap"] == 4
    assert lines["kafka", "odd key"] == 5
    assert lines["kafka", "nested", "inner"] == 6
    assert ("kafka", "fake") not in lines
    assert lines["kafka", "after"] == 11
    assert lines["limits", 0, "scope"] == 14
    assert lines["limits", 1, "scope"] == 16
    assert lines["limits", 1, "more", "deep"] == 18
    assert lines["categories", "A b", "digest", "mode"] == 21


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flowstate.toml"
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file_and_overrides_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, 'clock = "wall"\n[kafka]\nbootstrap = "file:1"\npartitions = 4\n')
    environment = {
        "FLOWSTATE_KAFKA__BOOTSTRAP": "environment:2",
        "FLOWSTATE_CLOCK": "stream",
        "FLOWSTATE_UNRELATED": "no key of ours at the top",
        "OTHER": "x",
    }
    document = read_document(
        path, environment, {"kafka.partitions": 8, "engine": {"tick": "1s"}}, {"clock"}
    )
    assert document.values == {
        "clock": "stream",
        "kafka": {"bootstrap": "environment:2", "partitions": 8},
        "engine": {"tick": "1s"},
    }
    assert ("kafka", "bootstrap") not in document.lines


def test_variables_are_filled_in_and_missing_ones_named(tmp_path: Path) -> None:
    path = write(tmp_path, 'a = "x-${ONE}-${TWO}"\nb = ["${ONE}", 5]\n')
    document = read_document(path, {"ONE": "1", "TWO": "${ONE}"}, {}, set())
    assert document.values == {"a": "x-1-${ONE}", "b": ["1", 5]}
    assert written_at(document, ("a",)) == "x-${ONE}-${TWO}"
    document = read_document(path, {"ONE": "1"}, {}, set())
    assert [(p.key, p.expected) for p in document.problems] == [
        ("a", "the environment variable TWO is not set")
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = ", "is not TOML: Invalid value"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value .at line 2"),
        (b"a = '\xff'", "is not UTF-8"),
        (b"# " + b"x" * (5 << 20), "is larger than"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "flowstate.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        read_document(path, {}, {}, set())


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_document(tmp_path / "none.toml", {}, {}, set())
