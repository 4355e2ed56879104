"""SMS segments as the network counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.templates.segments import fit_segments, segments


@pytest.mark.parametrize(
    ("text", "encoding", "count"),
    [
        ("", "gsm7", 1),
        ("a" * 160, "gsm7", 1),
        ("a" * 161, "gsm7", 2),
        ("a" * 306, "gsm7", 2),
        ("a" * 307, "gsm7", 3),
        ("\u20ac" * 80, "gsm7", 1),
        ("\u20ac" * 81, "gsm7", 2),
        ("a" * 152 + "\u20ac" + "a" * 152, "gsm7", 3),
        ("\u0444" * 70, "ucs2", 1),
        ("\u0444" * 71, "ucs2", 2),
        ("\u0444" * 134, "ucs2", 2),
        ("\U0001f600" * 35, "ucs2", 1),
        ("\U0001f600" * 36, "ucs2", 2),
        ("\U0001f600" * 66, "ucs2", 2),
        ("\U0001f600" * 67, "ucs2", 3),
    ],
)
def test_segments(text: str, encoding: str, count: int) -> None:
    """The euro costs two septets and is never split; nor is a surrogate pair."""
    found = segments(text)
    assert (found.encoding, found.count) == (encoding, count)


def test_plain_typography_is_tried_before_cutting() -> None:
    text = "\u201cHello\u201d " + "a" * 100
    assert segments(text).count == 2
    assert fit_segments(text, 1) == '"Hello" ' + "a" * 100


@given(st.text(max_size=400), st.integers(1, 3))
def test_never_more_than_the_ceiling(text: str, ceiling: int) -> None:
    assert segments(fit_segments(text, ceiling)).count <= ceiling
