"""Receipts beyond the ordinary: what they name, what they forbid, what they end and what not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core.model import Suppression
from streams.core.policy import Bounds, Category
from tests.core.build import DAY, HOUR, MAIL, MINUTE, MOBILE, PHONE, T0, Person, a_policy

URGENT = Category("message", channels=("push", "email", "sms"), route="escalate",
                  escalate_after_ms=HOUR, escalate_until=("seen", "paid"))  # fmt: skip
CELL = "cell:message/email"


def scopes(ana: Person) -> list[str]:
    return [suppression.scope for suppression in ana.state.profile.suppressions]


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("channel:push", "channel:push"),
        ("channel:webhook", "channel:webhook"),
        ("channel:pigeon", "all"),
        ("category:" + "x" * 8, "category:" + "x" * 8),
        ("category:" + "x" * 9, "all"),
        ("category:", "all"),
        ("category", "all"),
        ("categories:a", "all"),
        ("bategory:a", "all"),
        ("chan:push", "all"),
        ("zhannel:push", "all"),
        ("all", "all"),
    ],
)
def test_what_is_unsubscribed_from(name: str, scope: str) -> None:
    ana = Person(a_policy(bounds=Bounds(id_bytes_max=8)), PHONE)
    ana.hears("unsubscribed", name=name, destination_id="phone")
    assert ana.state.profile.suppressions == (Suppression(scope, "unsubscribed", T0),)
    assert ana.entries[-1].inputs == {"scope": scope, "why": "unsubscribed"}


def test_without_a_name_it_is_the_address_else_everything() -> None:
    ana = Person(a_policy(bounds=Bounds(id_bytes_max=8)), PHONE)
    ana.hears("unsubscribed", name=None, destination_id="phone")
    ana.hears("unsubscribed", name="", destination_id="x" * 9)
    ana.hears("unsubscribed", name=None)
    assert scopes(ana) == ["destination:phone", "destination:" + "x" * 8, "all"]


def test_only_an_unsubscription_speaks_of_a_cell() -> None:
    ana = Person(a_policy(), PHONE, MAIL)
    for kind in ("seen", "clicked", "business", "delivered", "bounced", "complained"):
        ana.hears(kind, name=CELL)
    assert not ana.state.profile.preferences.cells
    assert not scopes(ana)
    assert not ana.verdicts


def test_a_choice_is_dated_by_when_it_was_made() -> None:
    ana = Person(a_policy(), PHONE, MAIL, updated_at_ms=T0 - DAY)
    ana.hears("unsubscribed", name=CELL, occurred_at_ms=T0 - HOUR)
    assert ana.state.profile.preferences.updated_at_ms == T0 - HOUR
    ana.hears("unsubscribed", name="cell:message/push", occurred_at_ms=T0 + HOUR)
    assert ana.state.profile.preferences.updated_at_ms == T0, "not in the future"
    ana.hears("unsubscribed", name="cell:message/sms", occurred_at_ms=T0 - DAY)
    assert ana.state.profile.preferences.updated_at_ms == T0, "never earlier than it was"
    assert ana.state.profile.preferences.cells == {
        "message/email": False, "message/push": False, "message/sms": False,
    }  # fmt: skip


def test_a_yes_is_taken_back_by_an_unsubscription_from_its_cell() -> None:
    ana = Person(a_policy(), PHONE, MAIL, cells={"message/email": True})
    ana.hears("unsubscribed", name=CELL)
    assert ana.state.profile.preferences.cells == {"message/email": False}
    assert not scopes(ana)


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [
        (Bounds(id_bytes_max=13), True),
        (Bounds(id_bytes_max=12), False),
        (Bounds(preferences_bytes_max=14 + len("UTC" + "en")), True),
        (Bounds(preferences_bytes_max=13 + len("UTC" + "en")), False),
    ],
)
def test_a_cell_must_fit_into_the_preferences(bounds: Bounds, fits: bool) -> None:
    ana = Person(a_policy(bounds=bounds), MAIL)
    ana.hears("unsubscribed", name=CELL)
    assert bool(ana.state.profile.preferences.cells) is fits
    assert scopes(ana) == ([] if fits else ["category:message"])


@pytest.mark.parametrize(
    ("kind", "occurred_ms", "expected"),
    [
        ("bounced", T0 - HOUR, Suppression("destination:mail", "bounced", T0 - HOUR)),
        ("complained", T0 + HOUR, Suppression("destination:mail", "complained", T0)),
        ("soft_bounced", T0, Suppression("destination:mail", "soft_bounced", T0, T0 + DAY)),
        ("soft_bounced", T0 - DAY + 1,
         Suppression("destination:mail", "soft_bounced", T0 - DAY + 1, T0 + 1)),
        ("soft_bounced", T0 - DAY, None),
        ("delivered", T0, None),
        ("undelivered", T0, None),
        ("seen", T0, None),
        ("clicked", T0, None),
        ("business", T0, None),
    ],
)  # fmt: skip
def test_what_closes_an_address_and_since_when(
    kind: str, occurred_ms: int, expected: Suppression | None
) -> None:
    ana = Person(a_policy(), MAIL)
    ana.hears(kind, destination_id="mail", occurred_at_ms=occurred_ms)
    assert ana.state.profile.suppressions == (() if expected is None else (expected,))
    if expected is not None:
        assert ana.entries[-1].until_ms == expected.until_ms
        assert ana.entries[-1].inputs == {"scope": "destination:mail", "why": kind}


def test_what_was_added_is_told_whatever_was_there_before() -> None:
    ana = Person(a_policy(), MAIL)
    for name in ("phone", "tablet", "mail"):
        ana.hears("bounced", destination_id=name)
        assert ana.entries[-1].inputs["scope"] == f"destination:{name}"


def test_an_address_with_an_absurd_name_closes_nothing() -> None:
    for length, closed in ((256, 1), (257, 0)):
        ana = Person(a_policy(), MAIL)
        ana.hears("bounced", destination_id="x" * length)
        assert len(scopes(ana)) == closed


def test_a_bounce_that_names_the_delivery_of_a_later_step_closes_its_address() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL, MOBILE)
    ana.gets("e1")
    ana.waits_for(3 * HOUR)
    for sent in ana.deliveries:
        ana.hears("bounced", notification_id=sent.notification_id, delivery_id=sent.delivery_id)
    assert scopes(ana) == ["destination:phone", "destination:mail", "destination:mobile"]
    assert ana.entries[-1].subject_id == ana.deliveries[0].notification_id


def test_a_bounce_without_the_notification_closes_nothing() -> None:
    ana = Person(a_policy(), MAIL)
    ana.gets("e1")
    ana.hears("bounced", delivery_id=ana.deliveries[0].delivery_id)
    ana.hears("bounced", notification_id=ana.deliveries[0].notification_id)
    assert not scopes(ana)


def test_what_it_is_about_stands_in_the_entry() -> None:
    for fields, subject_id in (
        ({"notification_id": "n", "delivery_id": "d", "event_id": "e"}, "n"),
        ({"delivery_id": "d"}, "d"),
    ):
        ana = Person(a_policy(), MAIL)
        ana.hears("complained", destination_id="mail", **fields)
        assert ana.entries[0].subject_id == subject_id
        assert ana.entries[0].event_id == fields.get("event_id")
    ana = Person(a_policy(), MAIL)
    ana.hears("complained", destination_id="mail")
    assert len(ana.entries[0].subject_id) == 32


def test_a_business_event_ends_all_that_it_is_for() -> None:
    ana = Person(a_policy(URGENT, replace(URGENT, name="other", escalate_until=("seen",))),
                 PHONE, MAIL)  # fmt: skip
    for number in range(2):
        ana.gets(f"m{number}")
    ana.gets("o1", "other")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=MINUTE)
    ana.forget_effects()
    ana.hears("business", name="paid")
    assert ana.verdicts == ["noted escalation_ended"] * 2 + ["noted retry_ended"]
    assert [entry.event_id for entry in ana.entries] == ["m0", "m1", "m0"]
    assert all(entry.inputs == {"by": "paid"} for entry in ana.entries)
    assert [len(entry.deliveries) for entry in ana.entries] == [0, 0, 1]
    waiting = ana.state.waiting
    assert [step.notification.event_id for step in waiting.escalations] == ["o1"]
    assert not waiting.retries


def test_a_receipt_with_the_name_of_a_kind_is_not_that_kind() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1")
    for kind in ("clicked", "bounced", "delivered"):
        ana.hears(kind, name="paid", event_id="e1")
    ana.hears("business", name=None)
    ana.hears("seen")
    assert len(ana.state.waiting.escalations) == 1
    ana.hears("business", name="seen")
    assert not ana.state.waiting.escalations, "an app may say so by a name of its own"


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({"notification_id": "?"}, True),
        ({"notification_id": "?", "event_id": "other", "delivery_id": "other"}, True),
        ({"notification_id": "other", "event_id": "e1"}, False),
        ({"notification_id": "0"}, False),
        ({"notification_id": "z"}, False),
        ({"event_id": "e1", "delivery_id": "other"}, True),
        ({"event_id": "e0"}, False),
        ({"event_id": "e2"}, False),
    ],
)
def test_the_most_telling_id_decides(fields: dict[str, str], ends: bool) -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1")
    told = ana.deliveries[0].notification_id
    ana.hears("seen", **{k: v.replace("?", told) for k, v in fields.items()})
    assert bool(ana.state.waiting.escalations) is not ends


def test_only_a_business_event_needs_no_id() -> None:
    ends = ("bounced", "delivered", "undelivered", "paid")
    ana = Person(a_policy(replace(URGENT, escalate_until=ends)), PHONE, MAIL)
    ana.gets("e1")
    for kind in ends[:-1]:
        ana.hears(kind)
    ana.hears("soft_bounced", name="paid", event_id="e1")
    ana.hears("complained", name="paid", event_id="e1")
    assert len(ana.state.waiting.escalations) == 1
    ana.hears("business", name="paid")
    assert not ana.state.waiting.escalations


def test_what_does_not_escalate_is_not_ended_by_a_receipt() -> None:
    """A retry of an ordinary category, and what is held for another reason than a step."""
    plain = Category("message", channels=("push",), escalate_until=("seen",))
    for category in (plain, replace(plain, route="all")):
        ana = Person(a_policy(category), PHONE)
        ana.gets("e1")
        ana.answers(ana.deliveries[0], "retry")
        ana.gets("e2", send_at_ms=T0 + HOUR)
        before = ana.state
        ana.hears("seen", event_id="e1")
        ana.hears("seen", event_id="e2")
        assert ana.state is before
    urgent = Person(a_policy(URGENT), PHONE, MAIL)
    urgent.gets("e1", send_at_ms=T0 + HOUR)
    urgent.hears("seen", event_id="e1")
    assert len(urgent.state.waiting.held) == 1, "nothing of it was sent, so nobody has seen it"


def test_a_category_that_is_gone_ends_nothing() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1")
    ana.policy = a_policy(Category("left"))
    before = ana.state
    assert ana.hears("seen", event_id="e1").state is before


def test_the_held_step_that_is_meant_ends_and_no_other() -> None:
    ana = Person(a_policy(URGENT), PHONE, MAIL)
    ana.gets("e1")
    ana.gets("e2")
    ana.prefers(snooze_until_ms=T0 + DAY)
    ana.waits_for(2 * HOUR)
    assert len(ana.state.waiting.held) == 2
    ana.forget_effects()
    ana.hears("seen", event_id="e1")
    assert ana.verdicts == ["noted step_ended"]
    assert ana.entries[0].event_id == "e1"
    assert [held.notification.event_id for held in ana.state.waiting.held] == ["e2"]
