"""Routing: what leaves says everything, until when it is valid, and which step comes next."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core import routing
from streams.core.model import QuietWindow
from streams.core.policy import Bounds, Category, DigestRule, QuietAction
from tests.core.build import (
    DAY,
    HOUR,
    MAIL,
    MINUTE,
    MOBILE,
    PHONE,
    T0,
    TABLET,
    Person,
    a_policy,
    at,
)

NIGHT = (QuietWindow(22 * 60, 8 * 60),)
EVENING, TEN = at("2026-03-10 21:55"), at("2026-03-10 22:00")
URGENT = Category("message", channels=("push", "email", "sms"), route="escalate",
                  escalate_after_ms=HOUR)  # fmt: skip


def test_a_delivery_says_everything_that_its_sink_needs() -> None:
    category = Category("message", template="hello", on_ambiguous="give_up")
    phone = replace(PHONE, attributes={"a": "b"})
    ana = Person(a_policy(category), phone, locale="pt")
    ana.now_ms = T0 + 7
    ana.gets(
        "e1", created_at_ms=T0 - 5, actor_id="bob", data={"who": "Bob"}, collapse_key="score",
        campaign="spring", expires_at_ms=T0 + HOUR, priority="bulk",
    )  # fmt: skip
    (sent,) = ana.deliveries
    assert len(sent.delivery_id) == len(sent.notification_id) == 32
    assert (sent.recipient_id, sent.category, sent.priority) == ("ana", "message", "bulk")
    assert (sent.channel, sent.kind, sent.destination_id) == ("push", "fcm", "phone")
    assert (sent.address, sent.attributes) == ("token-1", {"a": "b"})
    assert (sent.registered_at_ms, sent.template, sent.locale) == (T0 - DAY, "hello", "pt")
    assert (sent.data, sent.event_id, sent.digest_key) == ({"who": "Bob"}, "e1", None)
    assert (sent.count, sent.actors, sent.items) == (1, 1, ())
    assert (sent.collapse_key, sent.campaign, sent.actor_id) == ("score", "spring", "bob")
    assert (sent.step, sent.attempt, sent.epoch) == (0, 1, 0)
    assert (sent.created_at_ms, sent.appended_at_ms, sent.decided_at_ms) == (
        T0 - 5, T0 + 7, T0 + 7,
    )  # fmt: skip
    assert (sent.valid_until_ms, sent.expires_at_ms) == (T0 + 7 + 15 * MINUTE, T0 + HOUR)
    assert (sent.on_ambiguous, sent.policy_version) == ("give_up", "test-1")
    plain = Person(a_policy(), PHONE)
    plain.gets("e1")
    assert (plain.deliveries[0].template, plain.deliveries[0].actors) == ("message", 0)


def test_what_a_delivery_was_made_of_can_be_decided_again() -> None:
    ana = Person(
        a_policy(Category("message", digest=DigestRule("window", key=("actor_id",)))), PHONE
    )
    for name in ("e1", "e2"):
        ana.gets(name, actor_id="bob", campaign="spring", data={"n": name})
    ana.waits_for(HOUR)
    (sent,) = ana.deliveries
    told = routing.notification_of(sent)
    for field in ("notification_id", "category", "priority", "created_at_ms", "appended_at_ms",
                  "expires_at_ms", "data", "event_id", "digest_key", "count", "actors", "items",
                  "collapse_key", "campaign", "actor_id"):  # fmt: skip
        assert getattr(told, field) == getattr(sent, field), field
    assert (told.count, told.digest_key, told.campaign) == (2, "bob", "spring")


@pytest.mark.parametrize(
    ("action", "priority", "valid_ms"),
    [
        ("hold", "normal", TEN),
        ("drop", "normal", TEN),
        ("digest", "bulk", TEN),
        ("downgrade", "normal", EVENING + 15 * MINUTE),  # Quiet enough for quiet hours.
        ("hold", "critical", EVENING + 15 * MINUTE),
    ],
)
def test_it_is_valid_until_the_night_if_the_night_matters(
    action: QuietAction, priority: str, valid_ms: int
) -> None:
    category = Category(
        "message", channels=("email",), downgrade_to=("email",), quiet_action=action,
        priority=priority,  # type: ignore[arg-type]
    )  # fmt: skip
    ana = Person(a_policy(category), MAIL, now_ms=EVENING, quiet_hours=NIGHT)
    ana.gets("e1")
    assert ana.deliveries[0].valid_until_ms == valid_ms


def test_a_loud_channel_is_not_valid_by_night_though_another_is() -> None:
    softly = Category("message", channels=("push",), quiet_action="downgrade",
                      downgrade_to=("email",))  # fmt: skip
    ana = Person(a_policy(softly), PHONE, now_ms=EVENING, quiet_hours=NIGHT)
    ana.gets("e1")
    assert ana.deliveries[0].valid_until_ms == TEN
    early = Person(a_policy(softly), PHONE, now_ms=EVENING - HOUR, quiet_hours=NIGHT)
    early.gets("e1")
    assert early.deliveries[0].valid_until_ms == EVENING - HOUR + 15 * MINUTE


def test_the_entry_names_the_cell_and_every_delivery() -> None:
    ana = Person(a_policy(Category("message", route="all")), PHONE, TABLET, MAIL,
                 channels={"push": True})  # fmt: skip
    ana.gets("e1")
    (entry,) = ana.entries
    assert entry.inputs == {"cell": "channel push"}
    assert [(s.delivery_id, s.channel, s.kind, s.destination_id, s.attempt)
            for s in entry.deliveries] == [
        (d.delivery_id, d.channel, d.kind, d.destination_id, 1) for d in ana.deliveries
    ]  # fmt: skip
    assert {d.step for d in ana.deliveries} == {0}, "only an escalation has steps"


def test_the_step_of_an_escalation_is_the_channels_place() -> None:
    ana = Person(a_policy(URGENT), MAIL, MOBILE)
    ana.gets("e1")
    assert [(d.channel, d.step) for d in ana.deliveries] == [("email", 1)]
    assert ana.entries[0].inputs["escalates_to"] == "sms"
    ana.waits_for(HOUR)
    assert [(d.channel, d.step) for d in ana.deliveries] == [("email", 1), ("sms", 2)]
    assert "escalates_to" not in ana.entries[-1].inputs


def test_a_planned_step_knows_all_that_was_handed_over() -> None:
    ana = Person(a_policy(URGENT), PHONE, TABLET, MAIL, MOBILE)
    ana.gets("e1")
    (planned,) = ana.state.waiting.escalations
    assert (planned.next_step, planned.due_ms) == (1, T0 + HOUR)
    assert planned.delivery_ids == tuple(d.delivery_id for d in ana.deliveries)
    ana.waits_for(HOUR)
    (planned,) = ana.state.waiting.escalations
    assert (planned.next_step, planned.due_ms) == (2, T0 + 2 * HOUR)
    assert planned.delivery_ids == tuple(d.delivery_id for d in ana.deliveries)
    assert len(planned.delivery_ids) == 3
    assert planned.notification.event_id == "e1"


def test_a_channel_order_that_grew_shorter_has_no_next_step() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1")
    ana.policy = a_policy(replace(URGENT, channels=("email",)))
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "noted no_destination"
    assert not ana.state.waiting.escalations


def test_the_next_step_needs_room() -> None:
    for bounds, planned in (
        (Bounds(escalations_max=2), 2),
        (Bounds(escalations_max=1), 1),
        (Bounds(escalations_max=0), 0),
        (Bounds(waiting_bytes_max=1_000), 2),
        (Bounds(waiting_bytes_max=300), 1),
        (Bounds(waiting_bytes_max=100), 0),
    ):
        ana = Person(a_policy(URGENT, bounds=bounds), PHONE, MAIL)
        for name in ("e1", "e2"):
            ana.gets(name)
        assert len(ana.state.waiting.escalations) == planned
        assert ("escalation" in ana.entries[-1].inputs) is (planned < 2)
    shrunk = Person(a_policy(URGENT), PHONE, MAIL)
    for name in ("e1", "e2", "e3"):
        shrunk.gets(name)
    shrunk.policy = a_policy(URGENT, bounds=Bounds(escalations_max=1))
    shrunk.gets("e4")
    assert shrunk.entries[-1].inputs["escalation"] == "none: too many wait"


def test_a_new_epoch_is_noted_as_begun() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", expires_at_ms=T0 + 10 * DAY)
    assert not ana.state.waiting.attempted
    ana.answers(ana.deliveries[0], "rejected")
    ana.waits_for(3 * DAY)
    ana.gets("e1")
    (known,) = ana.state.waiting.attempted
    assert (known.epoch, known.attempt, known.stale_count) == (1, 0, 0)
    assert ana.deliveries[-1].epoch == 1


def test_a_delivery_keeps_its_address_until_another_is_registered() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    (sent,) = ana.deliveries
    assert routing.readdressed(sent, replace(PHONE, address="same time")) is sent
    for registered_ms in (T0 - DAY - 1, T0 - DAY + 1):
        other = replace(PHONE, address="new", attributes={"a": "b"}, registered_at_ms=registered_ms)
        found = routing.readdressed(sent, other)
        assert found == replace(
            sent, address="new", attributes={"a": "b"}, registered_at_ms=registered_ms
        )
