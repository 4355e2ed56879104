"""Which channels are open, and what is said when none is."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.policy import Category
from tests.core.build import HOUR, MAIL, MOBILE, PHONE, T0, TABLET, Person, a_policy

EACH = Category("message", channels=("push", "email", "sms"))


def inputs_of(ana: Person) -> dict[str, str]:
    ana.gets("e1")
    assert not ana.sent
    return ana.entries[-1].inputs


def test_each_closed_channel_is_told_with_what_closes_it() -> None:
    ana = Person(a_policy(EACH), PHONE, MAIL, channels={"email": False})
    ana.hears("bounced", destination_id="phone")
    assert inputs_of(ana) == {
        "push": "bounced (destination:phone)",
        "email": "opted_out (channel email)",
        "sms": "no_destination (sms)",
        "scope": "destination:phone",
    }
    assert ana.verdicts[-1] == "suppressed bounced"


@pytest.mark.parametrize(
    ("kills", "heard", "preferences", "verdict", "told"),
    [
        ({"kind:fcm"}, ("all",), {}, "suppressed unsubscribed", ("scope", "all")),
        ({"kind:fcm"}, (), {"default": False}, "dropped killed", ("switch", "kind:fcm")),
        (set(), ("channel:push",), {"default": False}, "suppressed unsubscribed",
         ("scope", "channel:push")),
        (set(), (), {"default": False}, "suppressed opted_out", ("cell", "recipient default")),
        (set(), (), {"cells": {"message/push": False}}, "suppressed opted_out",
         ("cell", "cell message/push")),
    ],
)  # fmt: skip
def test_what_outranks_what(
    kills: set[str], heard: tuple[str, ...], preferences: Any, verdict: str, told: tuple[str, str]
) -> None:
    ana = Person(a_policy(EACH, kills=frozenset(kills)), PHONE)
    ana.prefers(**preferences)
    for name in heard:
        ana.hears("unsubscribed", name=name)
    found = inputs_of(ana)
    assert ana.verdicts[-1] == verdict
    assert found[told[0]] == told[1]


def test_an_obstacle_is_told_before_an_opt_out_whatever_their_order() -> None:
    for closed, opted_out in ((PHONE, "email"), (MAIL, "push")):
        ana = Person(a_policy(EACH), PHONE, MAIL, channels={opted_out: False})
        ana.hears("complained", destination_id=closed.destination_id)
        ana.gets("e1")
        assert ana.verdicts[-1] == "suppressed complained"


def test_an_address_that_is_closed_does_not_close_its_sibling() -> None:
    ana = Person(a_policy(EACH), PHONE, TABLET)
    ana.hears("bounced", destination_id="phone")
    ana.gets("e1")
    assert [d.destination_id for d in ana.deliveries] == ["tablet"]
    ana.hears("soft_bounced", destination_id="tablet")
    ana.gets("e2")
    assert ana.entries[-1].inputs["push"] == "bounced (destination:phone)", "the first one's"


def test_a_channel_that_is_closed_gives_way_to_the_next() -> None:
    ana = Person(a_policy(EACH), PHONE, MAIL, MOBILE)
    ana.hears("unsubscribed", name="channel:push")
    ana.gets("e1")
    ana.hears("bounced", destination_id="mail")
    ana.gets("e2")
    assert ana.sent == [("e1", "email"), ("e2", "sms")]


def test_a_kind_that_is_stopped_leaves_the_other_kinds_of_its_channel() -> None:
    ana = Person(a_policy(EACH, kills=frozenset({"kind:fcm"})), PHONE, TABLET)
    ana.gets("e1")
    assert [d.kind for d in ana.deliveries] == ["apns"]


def test_a_later_step_speaks_of_the_channels_that_are_left() -> None:
    urgent = Category(
        "message", channels=("push", "email", "sms"), route="escalate", escalate_after_ms=HOUR
    )
    ana = Person(a_policy(urgent), PHONE)
    ana.gets("e1")
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == "noted no_destination"
    assert ana.entries[-1].inputs["channels"] == "email, sms"
    assert "push" not in ana.entries[-1].inputs


def test_a_fallback_speaks_of_the_other_channels() -> None:
    ana = Person(a_policy(EACH), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[-1] == "suppressed no_destination"
    assert ana.entries[-1].inputs["channels"] == "email, sms"
