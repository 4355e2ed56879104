"""Sessions and form tokens: what is signed is believed, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.web.sessions import Sessions, new_browser

SESSIONS = Sessions(b"secret", 1_000)
NOW = 1_700_000_000_000


def test_a_session_is_its_keys_until_it_ends() -> None:
    cookie = SESSIONS.begin("abc", NOW)
    assert SESSIONS.key_id(cookie, NOW + 999) == "abc"
    assert SESSIONS.key_id(cookie, NOW + 1_000) is None
    assert Sessions(b"other", 1_000).key_id(cookie, NOW) is None
    assert SESSIONS.begin("abc", NOW) != cookie


@given(st.data())
def test_a_changed_cookie_is_no_session(data: st.DataObject) -> None:
    cookie = SESSIONS.begin("abc", NOW)
    place = data.draw(st.integers(0, len(cookie) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = cookie[:place] + other + cookie[place + 1 :]
    assert SESSIONS.key_id(changed, NOW) == ("abc" if changed == cookie else None)


@given(st.text(max_size=300))
def test_nothing_made_up_is_a_session(cookie: str) -> None:
    assert SESSIONS.key_id(cookie, NOW) is None


def test_a_form_is_of_one_browser_and_one_session() -> None:
    browser, session = new_browser(), SESSIONS.begin("abc", NOW)
    token = SESSIONS.form_token(browser, session)
    assert SESSIONS.fits(token, browser, session)
    assert not SESSIONS.fits(token, new_browser(), session)
    assert not SESSIONS.fits(token, browser, "")
    assert not SESSIONS.fits(SESSIONS.form_token("", session), "", session)


@pytest.mark.parametrize("token", ["", "é", "0" * 64])
def test_a_token_that_is_none_does_not_fit(token: str) -> None:
    assert not SESSIONS.fits(token, "browser", "")
