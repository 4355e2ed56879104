"""The form alone: what it shows, and that sending it unchanged changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.api.pages import page
from streams.api.preference_form import changes, described
from streams.core.model import Preferences, QuietWindow
from streams.core.policy import Category, Policy
from tests.api.pages_html import Page, read

POLICY = Policy(
    "v",
    {
        "message": Category("message", channels=("push", "email")),
        "security": Category("security", "critical", mandatory=True, channels=("push", "sms")),
        "marketing": Category("marketing", "bulk", default_on=False, channels=("email",)),
        "<b>odd</b>": Category("<b>odd</b>", channels=("email",)),
    },
)

choices = st.dictionaries(
    st.sampled_from(["message/push", "message/email", "marketing/email"]), st.booleans()
)
preferences = st.builds(
    Preferences,
    default=st.none() | st.booleans(),
    categories=st.dictionaries(st.sampled_from(["message", "marketing"]), st.booleans()),
    channels=st.dictionaries(st.sampled_from(["push", "email", "sms"]), st.booleans()),
    cells=choices,
    zone=st.sampled_from(["UTC", "Europe/Lisbon", "America/Argentina/Buenos_Aires", "Old/Zone"]),
    quiet_hours=st.lists(
        st.builds(
            QuietWindow,
            st.integers(0, 1440),
            st.integers(0, 1440),
            st.integers(0, 127),
        ),
        max_size=3,
    ).map(tuple),
    digests=st.dictionaries(
        st.sampled_from(["message", "marketing"]),
        st.sampled_from(["immediate", "hourly", "daily@07:30", "daily@18:00"]),
    ),
)


def shown(present: Preferences, **values: Any) -> Page:
    rendered = page(
        "preferences.html",
        message="",
        is_refused=False,
        version='"v1"',
        suppressions=[],
        **{**described(present, POLICY), **values},
    )
    assert rendered.text is not None
    return read(rendered.text)


@settings(max_examples=150, deadline=None)
@given(preferences)
def test_a_form_sent_as_it_was_shown_changes_nothing(present: Preferences) -> None:
    found = changes(shown(present).form(), present, POLICY)
    # A daily window is written back as it is; everything else is left out.
    quiet = found.pop("quiet_hours", None)
    if quiet is not None:
        assert tuple(QuietWindow(**window) for window in quiet) == present.quiet_hours
    assert found == {}


@pytest.mark.parametrize("cell", ["message/push", "message/email", "marketing/email"])
def test_a_box_that_is_changed_becomes_one_cell(cell: str) -> None:
    present = Preferences(channels={"email": False})
    form = shown(present).form()
    was_on = ("cell", cell) in form
    sent = [pair for pair in form if pair != ("cell", cell)] if was_on else [*form, ("cell", cell)]
    assert changes(sent, present, POLICY) == {"quiet_hours": [], "cells": {cell: not was_on}}


def test_what_is_mandatory_cannot_be_changed_by_any_form() -> None:
    present = Preferences()
    sent = [pair for pair in shown(present).form() if pair[0] != "cell"]
    found = changes(sent, present, POLICY)
    assert not any(cell.startswith("security/") for cell in found["cells"])


def test_quiet_hours_zone_and_digest() -> None:
    present = Preferences()
    sent = {
        **dict(shown(present).form()),
        "quiet": "daily",
        "quiet_from": "22:30",
        "quiet_to": "06:00",
        "zone": "Asia/Kolkata",
        "digest:message": "daily",
        "digest_at:message": "07:15",
    }
    cells = [("cell", "message/push"), ("cell", "message/email"), ("cell", "<b>odd</b>/email")]
    found = changes([*((k, v) for k, v in sent.items() if k != "cell"), *cells], present, POLICY)
    assert found == {
        "quiet_hours": [{"start_minute": 1350, "end_minute": 360, "weekdays": 127}],
        "zone": "Asia/Kolkata",
        "digests": {"message": "daily@07:15"},
    }
    back = changes(
        [("digest:message", ""), *cells], Preferences(digests={"message": "hourly"}), POLICY
    )
    assert back == {"digests": {"message": None}}


def test_a_form_of_nonsense_changes_nothing_that_it_cannot_name() -> None:
    nonsense = [("quiet", "daily"), ("quiet_from", "99:99"), ("cell", "x"), ("digest:x", "y")]
    found = changes(nonsense, Preferences(), POLICY)
    assert set(found) <= {"cells"}


def test_the_page_can_be_used_by_everybody() -> None:
    found = shown(Preferences(quiet_hours=(QuietWindow(1320, 420, 31),)))
    assert found.language == "en"
    assert found.title
    assert found.headings == ["Your notifications"]
    assert found.unlabelled == []
    assert len(found.ids) == len(set(found.ids))
    names = [tag for tag, _ in found.tags]
    assert names.count("fieldset") == names.count("legend") == 3
    assert "main" in names
    headers = [values.get("scope") for tag, values in found.tags if tag == "th"]
    assert headers
    assert None not in headers
    assert not {"script", "iframe", "img"} & set(names)
    assert not any("style" in values or any(n.startswith("on") for n in values)
                   for _, values in found.tags)  # fmt: skip
    assert "As they are" in found.text
    assert "<b>odd</b>" in found.text.lower()  # as text, not as markup
