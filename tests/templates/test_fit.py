"""Fitting to bytes never cuts what a person sees as one character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.templates.fit import ELLIPSIS, cluster_start, fit, is_boundary, json_bytes, utf8_bytes

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAGS = "\U0001f1f5\U0001f1f9\U0001f1eb\U0001f1f7"
CLUSTERS = [
    "a",
    "\r\n",
    "e\u0301",
    FAMILY,
    "\U0001f44d\U0001f3fd",
    "\u2764\ufe0f",
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "\u1112\u1161\u11ab",
    "\ud55c",
    "\u0915\u094d\u0937",
    "\u0e01\u0e33"[:1] + "\u0e34",
    "\U0001f1f5\U0001f1f9",
]


def boundaries(text: str) -> list[int]:
    return [n for n in range(1, len(text)) if is_boundary(text, n)]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_has_no_boundary_inside_and_one_on_each_side(cluster: str) -> None:
    text = f"x{cluster}y"
    assert boundaries(text) == [1, len(text) - 1]


def test_flags_are_pairs() -> None:
    assert boundaries(FLAGS) == [2]
    assert fit(FLAGS, 8 + 3) == FLAGS[:2] + ELLIPSIS


def test_what_fits_is_unchanged_and_what_does_not_is_cut_between_clusters() -> None:
    assert fit("abc", 3) == "abc"
    assert fit("abcdef", 5) == "ab" + ELLIPSIS
    assert fit(FAMILY + "x", len(FAMILY.encode())) == ELLIPSIS
    assert fit("abc", 2) == "ab", "too small for an ellipsis"
    assert fit("abc", 0) == ""


@given(st.text(max_size=80) | st.lists(st.sampled_from(CLUSTERS), max_size=12).map("".join),
       st.integers(0, 60))  # fmt: skip
def test_never_longer_than_the_limit_and_always_a_prefix_on_a_boundary(
    text: str, limit: int
) -> None:
    for measure in (utf8_bytes, json_bytes):
        fitted = fit(text, limit, measure)
        assert measure(fitted) <= limit
        if fitted != text:
            kept = fitted.removesuffix(ELLIPSIS)
            assert text.startswith(kept)
            rest = text[len(kept) :]
            assert cluster_start(text, len(kept)) == len(kept) or not rest or rest[0].isspace()
