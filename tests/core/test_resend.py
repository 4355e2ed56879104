"""One more attempt: what it carries, what stands against it, and what becomes of it then."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.model import Destination, Kind, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule
from tests.core.build import (
    DAY,
    HOUR,
    MAIL,
    MINUTE,
    PHONE,
    T0,
    Person,
    a_policy,
    at,
)

NIGHT = (QuietWindow(22 * 60, 8 * 60),)
EVENING = at("2026-03-10 21:59")
MORNING = at("2026-03-11 08:00")


def retried(category: Category | None = None, **preferences: Any) -> Person:
    """Whose only delivery is tried again at T0 + 1 h."""
    ana = Person(a_policy(category or Category("message"), Category("like")), PHONE, **preferences)
    ana.gets("e1", actor_id="bob", collapse_key="score", data={"thread": "t1"}, campaign="spring")
    ana.answers(ana.deliveries[0], "retry", "busy", retry_after_ms=HOUR)
    return ana


def test_an_attempt_is_the_same_message_with_fresh_times() -> None:
    ana = retried()
    ana.prefers(locale="pt")
    ana.policy = replace(ana.policy, version="test-2")
    ana.waits(T0 + HOUR)
    first, second = ana.deliveries
    assert second == replace(
        first,
        attempt=2,
        decided_at_ms=T0 + HOUR,
        valid_until_ms=T0 + HOUR + 15 * MINUTE,
        locale="pt",
        policy_version="test-2",
    )
    entry = ana.entries[-1]
    assert entry.inputs == {"attempt": "2", "answer": "busy"}
    assert (entry.event_id, entry.subject_id) == ("e1", first.notification_id)
    assert [(sent.attempt, sent.delivery_id) for sent in entry.deliveries] == [
        (2, first.delivery_id)
    ]


def test_it_goes_to_the_address_and_with_the_attributes_of_today() -> None:
    ana = retried()
    today = replace(PHONE, address="new", attributes={"a": "b"}, registered_at_ms=T0)
    ana.registers(today)
    ana.waits(T0 + HOUR)
    sent = ana.deliveries[-1]
    assert (sent.address, sent.attributes, sent.registered_at_ms) == ("new", {"a": "b"}, T0)


def test_a_destination_of_another_kind_is_another_one() -> None:
    kinds: tuple[Kind, ...] = ("apns", "webpush")  # Before and after ``fcm`` by their names.
    for kind in kinds:
        ana = retried()
        ana.registers(Destination("phone", kind, "new", T0))
        ana.waits(T0 + HOUR)
        assert ana.verdicts[-1] == "suppressed no_destination"
        assert ana.entries[-1].inputs["channels"] == "push"


@pytest.mark.parametrize("expires_in_ms", [HOUR - 1, HOUR, HOUR + 1])
def test_it_leaves_only_before_it_expires(expires_in_ms: int) -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", expires_at_ms=T0 + expires_in_ms)
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=HOUR)
    ana.waits_for(2 * HOUR)
    assert (len(ana.deliveries) == 2) == (expires_in_ms > HOUR)
    if expires_in_ms > HOUR:
        assert ana.deliveries[-1].valid_until_ms == T0 + expires_in_ms
    else:
        assert ana.verdicts[-1] == "expired expired"


def test_at_its_expiry_it_is_not_decided_again() -> None:
    for waited_ms, verdict in ((HOUR - 1, "delivering decided_again"), (HOUR, "expired expired")):
        ana = Person(a_policy(), PHONE)
        ana.gets("e1", expires_at_ms=T0 + HOUR)
        ana.waits_for(waited_ms)
        ana.answers(ana.deliveries[0], "stale")
        assert ana.verdicts[-1] == verdict


def test_a_snooze_makes_it_wait_and_it_keeps_its_number() -> None:
    ana = retried()
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == "retrying snoozed"
    assert ana.entries[-1].until_ms == T0 + 2 * HOUR
    assert ana.entries[-1].inputs == {"attempt": "2", "answer": "busy", "zone": "UTC"}
    (waits,) = ana.state.waiting.retries
    assert (waits.waits_for, waits.reason, waits.delivery.attempt) == ("snoozed", "busy", 1)
    ana.waits(T0 + 2 * HOUR)
    assert [d.attempt for d in ana.deliveries] == [1, 2]
    ending = retried()
    ending.prefers(snooze_until_ms=T0 + HOUR)
    ending.waits(T0 + HOUR)
    assert ending.verdicts[-1] == "delivering retried", "the snooze ends just then"


def test_a_later_attempt_keeps_its_number_too() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.answers(replace(ana.deliveries[0], attempt=4), "retry", retry_after_ms=HOUR)
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits(T0 + HOUR)
    assert ana.state.waiting.retries[0].delivery.attempt == 4
    ana.waits(T0 + 2 * HOUR)
    assert [d.attempt for d in ana.deliveries] == [1, 5]


def test_the_end_of_a_snooze_lets_it_go_and_no_other_retry() -> None:
    ana = retried()
    ana.gets("e2")
    ana.answers(ana.deliveries[-1], "retry", retry_after_ms=DAY)
    ana.prefers(snooze_until_ms=T0 + 5 * HOUR)
    ana.waits(T0 + HOUR)
    ana.prefers()
    assert [(d.event_id, d.attempt) for d in ana.deliveries] == [("e1", 1), ("e2", 1), ("e1", 2)]
    assert ana.state.waiting.retries[0].due_ms == T0 + DAY
    assert ana.state.waiting.retries[0].waits_for == ""


def test_a_wait_that_ends_at_its_expiry_is_its_end() -> None:
    for until_ms, verdict in ((3 * HOUR - 1, "retrying snoozed"), (3 * HOUR, "expired expired")):
        ana = Person(a_policy(Category("message", expires_after_ms=3 * HOUR)), PHONE)
        ana.gets("e1")
        ana.answers(ana.deliveries[0], "retry", retry_after_ms=HOUR)
        ana.prefers(snooze_until_ms=T0 + until_ms)
        ana.waits(T0 + HOUR)
        assert ana.verdicts[-1] == verdict


def test_what_is_critical_does_not_wait() -> None:
    alert = Category("message", priority="critical", quiet_action="drop")
    ana = retried(alert, quiet_hours=(QuietWindow(0, 1440),), snooze_until_ms=T0 + DAY)
    ana.prefers(muted=("actor:bob",), snooze_until_ms=T0 + DAY)
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == "delivering retried"


def test_a_night_in_between() -> None:
    ana = Person(
        a_policy(release_jitter_ms=10 * MINUTE, release_lead_ms=2 * MINUTE), PHONE,
        now_ms=EVENING, quiet_hours=NIGHT,
    )  # fmt: skip
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    ana.waits_for(HOUR)
    until_ms = ana.entries[-1].until_ms
    assert until_ms is not None
    assert MORNING + 2 * MINUTE <= until_ms < MORNING + 12 * MINUTE
    assert ana.state.waiting.retries[0].waits_for == "quiet_hours"
    dropping = Person(
        a_policy(Category("message", quiet_action="drop")), PHONE, now_ms=EVENING,
        quiet_hours=NIGHT,
    )  # fmt: skip
    dropping.gets("e1")
    dropping.answers(dropping.deliveries[0], "retry", "busy", retry_after_ms=5 * MINUTE)
    dropping.waits_for(HOUR)
    assert dropping.entries[-1].inputs == {"attempt": "2", "answer": "busy", "zone": "UTC"}
    snoozed = retried(Category("message", quiet_action="drop"))
    snoozed.prefers(snooze_until_ms=T0 + 2 * HOUR)
    snoozed.waits(T0 + HOUR)
    assert snoozed.verdicts[-1] == "retrying snoozed", "a snooze drops nothing"


def test_a_quiet_channel_goes_by_night_and_a_loud_one_waits() -> None:
    softly = Category("message", channels=("push",), quiet_action="downgrade",
                      downgrade_to=("email",))  # fmt: skip
    ana = Person(a_policy(softly), PHONE, now_ms=EVENING, quiet_hours=NIGHT)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "retrying quiet_hours"
    holding = Category("message", channels=("email",), downgrade_to=("email",))
    bea = Person(a_policy(holding), MAIL, now_ms=EVENING, quiet_hours=NIGHT)
    bea.gets("e1")
    bea.answers(bea.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    bea.waits_for(HOUR)
    assert bea.verdicts[-1] == "retrying quiet_hours", "the category does not downgrade"
    snoozed = Person(a_policy(replace(softly, channels=("email",))), MAIL)
    snoozed.gets("e1")
    snoozed.answers(snoozed.deliveries[0], "retry")
    snoozed.prefers(snooze_until_ms=T0 + HOUR)
    snoozed.waits_for(MINUTE)
    assert snoozed.verdicts[-1] == "retrying snoozed"


@pytest.mark.parametrize(
    ("switch", "stopped"),
    [
        ("all", True),
        ("category:message", True),
        ("campaign:spring", True),
        ("kind:fcm", True),
        ("category:like", False),
        ("campaign:autumn", False),
        ("kind:apns", False),
    ],
)
def test_a_kill_switch_stops_what_it_names(switch: str, stopped: bool) -> None:
    ana = retried()
    ana.policy = replace(ana.policy, kills=frozenset({switch, "category:zzz"}))
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == ("dropped killed" if stopped else "delivering retried")
    if stopped:
        assert ana.entries[-1].inputs["switch"] == switch


@pytest.mark.parametrize(
    ("name", "stopped"),
    [
        ("all", True),
        ("category:message", True),
        ("category:like", False),
        ("channel:push", True),
        ("channel:email", False),
    ],
)
def test_a_suppression_stops_what_it_names(name: str, stopped: bool) -> None:
    ana = retried()
    ana.hears("unsubscribed", name=name)
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == ("suppressed unsubscribed" if stopped else "delivering retried")
    if stopped:
        assert ana.entries[-1].inputs["scope"] == name


def test_a_choice_against_it_is_named() -> None:
    ana = retried()
    ana.prefers(cells={"message/push": False})
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == "suppressed opted_out"
    assert ana.entries[-1].inputs["cell"] == "cell message/push"
    other = retried()
    other.prefers(cells={"message/email": False})
    other.waits(T0 + HOUR)
    assert other.verdicts[-1] == "delivering retried"


@pytest.mark.parametrize("muted", ["actor:bob", "key:score", "key:t1"])
def test_what_was_muted_meanwhile_is_not_tried_again(muted: str) -> None:
    rule = DigestRule("lookback", key=("data.thread",))
    for mandatory in (False, True):
        ana = retried(Category("message", digest=rule, mandatory=mandatory))
        ana.prefers(muted=(muted,))
        ana.waits(T0 + HOUR)
        expected = "delivering retried" if mandatory else "suppressed muted"
        assert ana.verdicts[-1] == expected
        if not mandatory:
            assert ana.entries[-1].inputs["muted"] == muted


def test_a_category_that_is_gone_leaves_a_dead_letter_with_the_delivery() -> None:
    ana = retried()
    ana.policy = a_policy(Category("left"))
    ana.waits(T0 + HOUR)
    assert ana.verdicts[-1] == "dead_lettered unknown_category"
    assert ana.entries[-1].inputs == {"attempt": "2", "answer": "busy", "category": "message"}
    (letter,) = ana.decisions[-1].dead_letters
    assert (letter.reason, letter.detail) == ("unknown_category", "busy")
    assert letter.delivery is not None


def test_the_bounds_of_what_waits_to_be_tried_again() -> None:
    for bounds, waits in (
        (Bounds(retries_max=2), 2),
        (Bounds(retries_max=1), 1),
        (Bounds(waiting_bytes_max=1_000), 2),
        (Bounds(waiting_bytes_max=500), 1),
        (Bounds(waiting_bytes_max=300), 0),
    ):
        ana = Person(a_policy(bounds=bounds), PHONE)
        for name in ("e1", "e2"):
            ana.gets(name)
            ana.answers(ana.deliveries[-1], "retry", "busy")
        assert len(ana.state.waiting.retries) == waits
        if waits < 2:
            assert ana.verdicts[-1] == "dead_lettered retries_overflow"
            limit = f"{bounds.retries_max} or {bounds.waiting_bytes_max} bytes"
            assert ana.entries[-1].inputs == {"answer": "busy", "attempt": "1", "limit": limit}


def test_a_bound_that_shrank_lets_no_more_wait() -> None:
    ana = Person(a_policy(), PHONE)
    for name in ("e1", "e2", "e3"):
        ana.gets(name)
    for sent in ana.deliveries[:2]:
        ana.answers(sent, "retry")
    ana.policy = a_policy(bounds=Bounds(retries_max=1))
    ana.answers(ana.deliveries[2], "retry")
    assert ana.verdicts[-1] == "dead_lettered retries_overflow"
    assert len(ana.state.waiting.retries) == 2
