"""Signed links alone: what was not signed for a purpose stands for nothing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import links

SECRETS = ("new", "old")
LINK = links.Link("ann", 1, "n" * 32, "d" * 32, "https://shop.example/?a=1")


def test_any_listed_secret_verifies_and_only_the_newest_signs() -> None:
    made = links.token(SECRETS, "click", LINK)
    assert links.verify(SECRETS, "click", made) == LINK
    assert links.verify(("newer", *SECRETS), "click", made) == LINK
    assert links.verify(("old",), "click", made) is None
    assert links.verify((), "click", made) is None


def test_a_link_is_for_one_purpose() -> None:
    made = links.token(SECRETS, "open", LINK)
    assert links.verify(SECRETS, "click", made) is None
    assert links.verify(SECRETS, "preferences", made) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_bit_is_noticed(data: st.DataObject) -> None:
    made = links.token(SECRETS, "click", LINK)
    raw = bytearray(base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    changed = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    assert links.verify(SECRETS, "click", changed) is None


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_no_text_is_a_link_by_accident(text: str) -> None:
    assert links.verify(SECRETS, "click", text) is None


def test_without_a_secret_no_link_is_made() -> None:
    with pytest.raises(ValueError, match="secret"):
        links.token((), "click", LINK)
