"""Sealed texts: opaque, for one purpose, by any listed secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sealed import TEXT_CHARACTERS_MAX, seal, unseal

bodies = st.binary(min_size=1, max_size=200)


@given(bodies)
def test_what_is_sealed_comes_back_and_only_for_its_purpose(body: bytes) -> None:
    text = seal(("new", "old"), "click", body)
    assert unseal(("newest", "new"), "click", text) == body
    assert unseal(("new",), "open", text) is None
    assert unseal(("old",), "click", text) is None
    assert seal(("new",), "click", body) == text, "the same link is the same text"


@given(bodies, st.data())
def test_a_changed_character_opens_to_nothing(body: bytes, data: st.DataObject) -> None:
    text = seal(("s",), "click", body)
    place = data.draw(st.integers(0, len(text) - 2))
    other = "A" if text[place] != "A" else "B"
    assert unseal(("s",), "click", text[:place] + other + text[place + 1 :]) is None


@given(st.text(max_size=90) | st.just("A" * (TEXT_CHARACTERS_MAX + 1)))
def test_nothing_else_opens(text: str) -> None:
    assert unseal(("s",), "click", text) is None
    assert unseal((), "click", text) is None


def test_nothing_is_sealed_without_a_secret_or_a_body() -> None:
    with pytest.raises(ValueError, match="secret"):
        seal((), "click", b"x")
    with pytest.raises(ValueError, match="nothing"):
        seal(("s",), "click", b"")
