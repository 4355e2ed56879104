"""Escalation: channel after channel until it is seen, every step through all the rules."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core.policy import Bounds, Category, LimitRule
from tests.core.build import HOUR, MAIL, MINUTE, MOBILE, PHONE, T0, Person, a_policy

URGENT = Category(
    "message",
    channels=("push", "email", "sms"),
    route="escalate",
    escalate_after_ms=5 * MINUTE,
    escalate_until=("seen", "clicked", "paid"),
)


def urgent(**policy: object) -> Person:
    ana = Person(a_policy(URGENT, **policy), PHONE, MAIL, MOBILE)
    ana.gets("e1")
    return ana


def test_the_next_channel_follows_until_there_is_none() -> None:
    ana = urgent()
    assert ana.entries[0].inputs["escalates_to"] == "email"
    assert ana.entries[0].inputs["escalates_at_ms"] == str(T0 + 5 * MINUTE)
    ana.waits_for(HOUR)
    assert ana.sent == [("e1", "push"), ("e1", "email"), ("e1", "sms")]
    assert [d.step for d in ana.deliveries] == [0, 1, 2]
    assert len({d.delivery_id for d in ana.deliveries}) == 3
    assert ana.verdicts[1:] == ["delivering escalated"] * 2
    assert ana.due_ms is None


@pytest.mark.parametrize("by", ["notification_id", "event_id", "delivery_id"])
@pytest.mark.parametrize("kind", ["seen", "clicked"])
def test_a_receipt_ends_it_whatever_id_it_carries(kind: str, by: str) -> None:
    ana = urgent()
    for _ in range(2):
        ana.hears(kind, **{by: getattr(ana.deliveries[0], by)})
    ana.waits_for(HOUR)
    assert ana.verdicts == ["delivering routed", "noted escalation_ended"]
    assert ana.entries[-1].inputs == {"by": kind}


def test_a_receipt_for_an_earlier_step_ends_it() -> None:
    ana = urgent()
    ana.waits_for(6 * MINUTE)
    ana.hears("seen", delivery_id=ana.deliveries[0].delivery_id)
    ana.waits_for(HOUR)
    assert len(ana.sent) == 2


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("delivered", {"event_id": "e1"}),
        ("seen", {"event_id": "other"}),
        ("seen", {}),
        ("business", {"name": "signed"}),
        ("seen", {"delivery_id": "other"}),
        ("seen", {"notification_id": "other", "event_id": "e1"}),
    ],
)
def test_other_receipts_do_not_end_it(kind: str, fields: dict[str, str]) -> None:
    ana = urgent()
    ana.hears(kind, **fields)
    ana.waits_for(6 * MINUTE)
    assert len(ana.sent) == 2


def test_a_named_business_event_ends_it() -> None:
    ana = urgent()
    ana.hears("business", name="paid")
    ana.waits_for(HOUR)
    assert len(ana.sent) == 1


def test_a_step_that_is_held_is_ended_as_well() -> None:
    ana = urgent()
    ana.prefers(snooze_until_ms=T0 + HOUR)
    ana.waits_for(10 * MINUTE)
    assert ana.verdicts[-1] == "held snoozed"
    ana.hears("seen", delivery_id=ana.deliveries[0].delivery_id)
    assert ana.verdicts[-1] == "noted step_ended"
    ana.waits_for(2 * HOUR)
    assert len(ana.sent) == 1


def test_a_retry_is_needless_once_it_was_seen() -> None:
    ana = urgent()
    ana.waits_for(6 * MINUTE)
    ana.answers(ana.deliveries[1], "retry", retry_after_ms=HOUR)
    ana.hears("seen", event_id="e1")
    assert sorted(ana.verdicts[-2:]) == ["noted escalation_ended", "noted retry_ended"]
    ana.waits_for(2 * HOUR)
    assert len(ana.sent) == 2


def test_each_step_passes_all_the_rules() -> None:
    ana = urgent()
    ana.prefers(channels={"email": False, "sms": False})
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "noted opted_out"
    limited = urgent(limits=(LimitRule("recipient", 1, HOUR, "drop"),))
    limited.waits_for(HOUR)
    assert limited.verdicts[-1] == "noted rate_limited"


def test_a_step_without_an_address_is_passed_over() -> None:
    ana = urgent()
    ana.removes(MAIL)
    ana.waits_for(6 * MINUTE)
    assert ana.sent[-1] == ("e1", "sms")


def test_an_address_that_is_gone_escalates_at_once_and_only_once() -> None:
    ana = urgent()
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[-2:] == ["suppressed unregistered", "delivering fallback"]
    ana.waits_for(HOUR)
    assert ana.sent == [("e1", "push"), ("e1", "email"), ("e1", "sms")]
    ana.answers(ana.deliveries[2], "unregistered")
    assert ana.verdicts[-1] == "suppressed unregistered"


def test_cancelling_ends_the_steps_to_come() -> None:
    ana = urgent()
    ana.cancels("e1")
    assert ana.verdicts[-2:] == ["noted escalation_ended", "noted too_late_to_cancel"]
    ana.waits_for(HOUR)
    assert len(ana.sent) == 1
    held = urgent()
    held.prefers(snooze_until_ms=T0 + HOUR)
    held.waits_for(10 * MINUTE)
    held.cancels("e1")
    assert held.verdicts[-2:] == ["noted step_ended", "noted too_late_to_cancel"]


def test_expiry_ends_it() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1", expires_at_ms=T0 + MINUTE)
    ana.waits_for(HOUR)
    assert ana.verdicts == ["delivering routed", "noted expired"]


def test_the_number_of_planned_steps_is_bounded() -> None:
    ana = Person(a_policy(URGENT, bounds=Bounds(escalations_max=1)), PHONE, MAIL)
    ana.gets("e1")
    ana.gets("e2")
    assert ana.entries[-1].inputs["escalation"] == "none: too many wait"
    ana.waits_for(HOUR)
    assert ana.sent == [("e1", "push"), ("e2", "push"), ("e1", "email")]


def test_other_categories_are_not_ended() -> None:
    plain = replace(URGENT, name="other", escalate_until=("clicked",))
    ana = Person(a_policy(URGENT, plain), PHONE, MAIL)
    ana.gets("o1", "other")
    ana.hears("seen", event_id="o1")
    ana.waits_for(6 * MINUTE)
    assert len(ana.sent) == 2
