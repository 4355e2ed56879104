"""Unsubscribe links cannot be made by anybody else."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from streams.sinks.settings import UnsubscribeSettings
from streams.sinks.unsubscribe import Unsubscribe, link, verify

SETTINGS = UnsubscribeSettings(base_url="https://example.com/", secrets=("new", "old"))
ABOUT = Unsubscribe("recipient-1", "message", "email")


def token_of(settings: UnsubscribeSettings = SETTINGS) -> str:
    made = link(settings, ABOUT)
    assert made is not None
    assert made.startswith("https://example.com/u/")
    return made.rpartition("/")[2]


def test_a_link_says_what_it_is_about_to_us_alone() -> None:
    assert verify(SETTINGS, token_of()) == ABOUT
    assert verify(UnsubscribeSettings("https://x", ("other",)), token_of()) is None


def test_links_made_before_a_rotation_go_on_working() -> None:
    before = UnsubscribeSettings(base_url="https://example.com/", secrets=("old",))
    assert verify(SETTINGS, token_of(before)) == ABOUT


def test_without_a_secret_there_are_no_links() -> None:
    assert link(UnsubscribeSettings(base_url="https://example.com/"), ABOUT) is None
    assert verify(UnsubscribeSettings(), token_of()) is None


@given(st.text(max_size=100) | st.binary(max_size=80).map(bytes.hex))
def test_what_we_did_not_sign_is_nothing(token: str) -> None:
    assert verify(SETTINGS, token) is None


def test_every_changed_character_is_noticed() -> None:
    token = token_of()
    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert verify(SETTINGS, changed) is None


def test_a_link_shows_neither_whom_nor_what_it_is_about() -> None:
    token = token_of()
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for word in (ABOUT.recipient_id, ABOUT.category, ABOUT.channel):
        assert word not in token
        assert word.encode() not in raw
    other = link(SETTINGS, Unsubscribe("recipient-2", "message", "email"))
    assert other is not None
    assert other.rpartition("/")[2][:20] != token[:20], "not even that two have something in common"
