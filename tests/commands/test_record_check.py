"""What ``flowstate publish`` asks of a record beyond its schema."""

from __future__ import annotations

from typing import Any

import pytest

from streams import settings
from streams.codec import Codec
from streams.commands.record_check import Check, check_of

NOW_MS = 1_082_040_960_000
CODEC = Codec(None)
SETTINGS = settings.load(
    settings.default_path(),
    {
        "providers.sms_one": {
            "type": "twilio",
            "account_sid": "AC1",
            "auth_token": "t",
            "sender": "+15005550006",
        }
    },
    {},
)
ANN = {"event_id": "e1", "recipient_id": "ann", "category": "message", "created_at_ms": NOW_MS}


def asked(record: str) -> Check:
    return check_of(record, CODEC, SETTINGS, NOW_MS)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event_id": ""}, "The event_id is empty."),
        ({"recipient_id": ""}, "The recipient_id is empty."),
        ({"created_at_ms": -5}, "created_at_ms is not a usable time: -5."),
        ({"category": "mesage"}, 'did you mean "message"?'),
        ({"send_at_local": "soon"}, "send_at_local is not a usable time"),
        ({"event_id": "\ud800"}, "surrogates not allowed"),
    ],
)
def test_an_event_that_would_be_a_dead_letter(fields: dict[str, Any], says: str) -> None:
    assert asked("event")(ANN) == []
    (problem,) = asked("event")({**ANN, **fields})
    assert says in problem


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"zone": "Mars/Base"}, "zone: Not an IANA time zone"),
        (
            {"quiet_hours": [{"start_minute": 0, "end_minute": 9999}]},
            "quiet_hours.0.end_minute: Expected",
        ),
        ({"channels": {"smoke": True}}, "channels: Invalid enum value 'smoke'"),
        ({"categories": {"nope": False}}, "categories.nope: The catalogue has no category"),
        ({"digests": {"like": "yearly"}}, "digests.like: Expected immediate"),
    ],
)
def test_a_choice_that_would_be_ignored(fields: dict[str, Any], says: str) -> None:
    right = {"recipient_id": "ann", "zone": "Europe/Lisbon", "categories": {"like": False}}
    assert asked("preference")(right) == []
    (problem,) = asked("preference")({**right, **fields})
    assert problem.startswith(says)


@pytest.mark.parametrize(
    "scope",
    ["all", "category:message", "campaign:spring-2026", "kind:apns", "provider:sms_one"],
)
def test_a_switch_of_every_sort_is_right(scope: str) -> None:
    assert asked("kill_switch")({"scope": scope, "active": True}) == []


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ("categry:message", 'did you mean "category"?'),
        ("message", "expected one of all, category:NAME"),
        ("all:", "expected one of"),
        ("campaign:", "expected one of"),
        ("", "expected one of"),
        ("category:mesage", 'did you mean "message"?'),
        ("kind:push", "there is no kind 'push'"),
        ("provider:sms_two", 'There are sms_one; did you mean "sms_one"?'),
    ],
)
def test_a_switch_that_would_stop_nothing(scope: str, says: str) -> None:
    (problem,) = asked("kill_switch")({"scope": scope, "active": True})
    assert says in problem


def test_a_switch_on_what_is_no_longer_known_can_be_turned_off() -> None:
    for scope in ("category:gone", "provider:gone", "kind:gone"):
        assert asked("kill_switch")({"scope": scope, "active": False}) == []
    assert asked("kill_switch")({"scope": "categry:message", "active": False})


def test_other_records_are_asked_nothing_more() -> None:
    assert asked("destination")({"anything": 1}) == []
