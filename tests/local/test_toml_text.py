"""What is written is read back the same."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.local.toml_text import merged, toml_text

SCALARS = (
    st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]))
)
KEYS = st.text(alphabet="abc-_ .é1😀", min_size=1, max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(document, "a comment\nof two lines")) == document


def test_overrides_are_laid_over_table_by_table() -> None:
    base = {"kafka": {"bootstrap": "a", "partitions": 16}, "clock": "wall", "limits": {"x": 1}}
    over = {"kafka": {"bootstrap": "b"}, "clock": "stream", "limits": 3, "new": {"y": 2}}
    assert merged(base, over) == {
        "kafka": {"bootstrap": "b", "partitions": 16},
        "clock": "stream",
        "limits": 3,
        "new": {"y": 2},
    }
    assert base["kafka"] == {"bootstrap": "a", "partitions": 16}


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        toml_text({"nothing": None})
