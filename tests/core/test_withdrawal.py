"""Dedupe, validation, expiry, scheduling, cancel, supersede, collapse."""

from __future__ import annotations

import pytest

from streams.core.model import Event, EventInput, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule
from streams.core.validate import fault_of
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy, at

LATE_LANE_MS = 5 * MINUTE


def test_the_same_event_is_told_once() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", data={"a": "1", "b": "2"}, created_at_ms=T0)
    ana.gets("e1", data={"b": "2", "a": "1"}, created_at_ms=T0)
    ana.gets("e1", data={"a": "2"}, created_at_ms=T0)
    assert ana.verdicts == ["delivering routed", "duplicate duplicate", "conflict conflict"]
    assert len({entry.subject_id for entry in ana.entries}) == 1


def test_the_horizon_is_whole_hours() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.waits_for(DAY + 59 * MINUTE)
    ana.gets("e1", created_at_ms=T0)
    assert ana.verdicts[-1] == "duplicate duplicate"
    ana.waits_for(MINUTE)
    ana.gets("e1", created_at_ms=T0)
    assert ana.verdicts[-1] == "delivering routed"
    assert len(ana.state.activity.seen) == 1, "old hours are gone"


def test_what_still_waits_is_a_duplicate_whatever_the_horizon() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", send_at_ms=T0 + 5 * DAY)
    ana.waits_for(3 * DAY)
    ana.gets("e1")
    assert ana.verdicts[-1] == "duplicate duplicate"
    ana.waits_for(4 * DAY)
    assert ana.sent == [("e1", "push")]


def test_a_held_digest_knows_its_events_though_it_does_not_show_them() -> None:
    rule = DigestRule(mode="window", window_ms=HOUR, items_kept_max=1, keep="last")
    ana = Person(a_policy(Category("message", digest=rule, expires_after_ms=10 * DAY)), PHONE)
    for name in ("e1", "e2", "e3"):
        ana.gets(name)
    ana.prefers(snooze_until_ms=T0 + 5 * DAY)
    ana.waits_for(3 * DAY)
    (held,) = ana.state.waiting.held
    assert [item.event_id for item in held.notification.items] == ["e3"]
    ana.gets("e1", created_at_ms=T0)
    assert ana.verdicts[-1] == "duplicate duplicate"
    ana.cancels("e2")
    assert ana.verdicts[-1] == "cancelled cancelled"
    assert [one.notification.count for one in ana.state.waiting.held] == [2]


def test_a_full_hour_is_reported_once() -> None:
    ana = Person(a_policy(bounds=Bounds(seen_per_hour_max=3)), PHONE)
    for number in range(5):
        ana.gets(f"e{number}")
    notes = [entry for entry in ana.entries if entry.reason == "dedupe_overflow"]
    assert [entry.event_id for entry in notes] == ["e2"]
    ana.gets("e0")
    assert ana.verdicts[-1].startswith("conflict") or ana.verdicts[-1].startswith("duplicate")
    ana.gets("e4")
    assert ana.verdicts[-1] == "delivering routed", "not remembered, as was said"
    ana.waits_for(HOUR)
    ana.gets("e9")
    ana.gets("e9")
    assert ana.verdicts[-1].startswith("duplicate")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event_id": ""}, "empty_id"),
        ({"event_id": "x" * 257}, "id_too_long"),
        ({"event_id": "é" * 129}, "id_too_long"),
        ({"collapse_key": "x" * 257}, "id_too_long"),
        ({"category": "unheard"}, "unknown_category"),
        ({"data": {f"n{n}": "" for n in range(65)}}, "too_many_fields"),
        ({"category": "strict", "data": {"what": "x"}}, "missing_field"),
        ({"data": {"text": "é" * 40_000}}, "event_too_large"),
        ({"created_at_ms": -1}, "bad_time"),
        ({"expires_at_ms": 10**15}, "bad_time"),
        ({"send_at_local": "soon"}, "bad_time"),
        ({"send_at_local": "2026-02-30T10:00"}, "bad_time"),
        ({"send_at_local": "25:00"}, "bad_time"),
        ({"send_at_ms": T0 + 31 * DAY}, "too_far_ahead"),
        ({"send_at_local": "2026-06-01T10:00"}, "too_far_ahead"),
    ],
)
def test_what_cannot_be_used_is_a_dead_letter(fields: dict[str, object], reason: str) -> None:
    strict = Category("strict", requires=("what", "who"))
    ana = Person(a_policy(Category("message"), strict), PHONE)
    event = Event(**{"event_id": "e1", "recipient_id": "ana", "category": "message",
                     "created_at_ms": T0, **fields})  # type: ignore[arg-type]  # fmt: skip
    ana.decides(EventInput(event, ana.source()))
    assert ana.verdicts == [f"dead_lettered {reason}"]
    (letter,) = ana.decisions[-1].dead_letters
    assert letter.reason == reason
    assert letter.source is not None
    assert not ana.sent


@pytest.mark.parametrize(
    "field", ["recipient_id", "actor_id", "collapse_key", "supersedes", "campaign"]
)
def test_each_id_is_bounded_by_itself(field: str) -> None:
    for length, is_usable in ((256, True), (257, False)):
        ids = {"event_id": "e", "recipient_id": "r", field: "x" * length}
        event = Event(category="message", created_at_ms=T0, **ids)  # type: ignore[arg-type]
        found = fault_of(event, a_policy(), T0)
        expected = None if is_usable else {"field": field, "limit": "256"}
        assert (found and found.inputs) == expected


@pytest.mark.parametrize("text", ["x" * 256, "é" * 128])
def test_the_longest_id_is_usable(text: str) -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets(text)
    assert ana.sent == [(text, "push")]


def test_an_invalid_record_does_not_speak_for_a_valid_one() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.gets("e1", "unheard")
    assert ana.verdicts[-1] == "conflict conflict"


def test_expiry_is_absolute_or_the_categorys() -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE)
    ana.gets("e1", expires_at_ms=T0)
    ana.gets("e2", expires_at_ms=T0 + 1)
    ana.gets("e3")
    assert ana.verdicts == ["expired expired"] + ["delivering routed"] * 2
    assert [d.expires_at_ms for d in ana.deliveries] == [T0 + 1, T0 + HOUR]


def test_an_event_is_sent_at_its_time_and_lives_from_then_on() -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=MINUTE)), PHONE)
    ana.gets("e1", send_at_ms=T0 + HOUR)
    assert ana.verdicts == ["held scheduled"]
    ana.waits(T0 + HOUR)
    assert ana.sent == [("e1", "push")]
    assert ana.deliveries[0].expires_at_ms == T0 + HOUR + MINUTE
    ana.gets("e2", send_at_ms=T0)
    assert ana.sent[-1] == ("e2", "push"), "a time that has passed is now"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-02T09:30", "2026-03-02 09:30"),
        ("21:45", "2026-03-01 21:45"),
        ("08:00", "2026-03-02 08:00"),
    ],
)
def test_local_times_are_the_recipients(text: str, expected: str) -> None:
    ana = Person(a_policy(), PHONE, zone="Asia/Tokyo")  # 21:00 there
    ana.gets("e1", send_at_local=text)
    assert ana.entries[0].until_ms == at(expected, "Asia/Tokyo")


def test_a_local_time_moves_with_the_recipient() -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE, zone="Asia/Tokyo")
    ana.gets("e1", send_at_local="08:00")
    ana.prefers(zone="Europe/Lisbon")
    ana.waits(at("2026-03-02 07:59", "Europe/Lisbon"))
    assert not ana.sent
    ana.waits(at("2026-03-02 08:00", "Europe/Lisbon"))
    assert ana.sent == [("e1", "push")]
    assert ana.deliveries[0].expires_at_ms == at("2026-03-02 09:00", "Europe/Lisbon")


def test_cancelling_answers_cancelled_too_late_or_remembered_once() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("sent")
    ana.gets("waits", send_at_ms=T0 + HOUR)
    ana.forget_effects()
    for name in ("sent", "waits", "later", "sent", "waits", "later"):
        ana.cancels(name)
    assert [(entry.event_id, entry.reason) for entry in ana.entries] == [
        ("sent", "too_late_to_cancel"),
        ("waits", "cancelled"),
        ("later", "cancel_remembered"),
    ]
    ana.gets("later")
    assert ana.verdicts[-1] == "cancelled cancelled_before_arrival"
    ana.waits_for(DAY)
    assert not ana.sent


def test_a_remembered_cancellation_is_forgotten_after_its_horizon() -> None:
    ana = Person(a_policy(cancel_horizon_ms=HOUR), PHONE)
    ana.cancels("e1")
    ana.waits_for(HOUR)
    ana.gets("e1")
    assert ana.sent == [("e1", "push")]


def test_only_the_latest_cancellations_are_remembered() -> None:
    ana = Person(a_policy(bounds=Bounds(cancelled_max=2)), PHONE)
    for name in ("e1", "e2", "e3"):
        ana.cancels(name)
    for name in ("e1", "e2", "e3"):
        ana.gets(name)
    assert ana.sent == [("e1", "push")]


def test_a_provider_does_not_bring_back_what_was_cancelled() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.cancels("e1")
    ana.answers(ana.deliveries[0], "retry")
    assert ana.verdicts[-1] == "cancelled cancelled"
    ana.waits_for(DAY)
    assert len(ana.sent) == 1
    other = Person(a_policy(), PHONE)
    other.gets("e1")
    other.answers(other.deliveries[0], "retry")
    other.cancels("e1")
    other.waits_for(DAY)
    assert len(other.sent) == 1


def test_cancelling_by_collapse_key() -> None:
    ana = Person(a_policy(Category("message"), Category("like")), PHONE)
    ana.gets("e1", collapse_key="score", send_at_ms=T0 + HOUR)
    ana.gets("l1", "like", collapse_key="score", send_at_ms=T0 + HOUR)
    ana.gets("e2", send_at_ms=T0 + HOUR)
    ana.forget_effects()
    ana.cancels(collapse_key="score")
    assert ana.verdicts == ["cancelled cancelled"] * 2
    ana.cancels(collapse_key="price")
    assert ana.verdicts[-1] == "noted too_late_to_cancel"
    older = Event("e3", "ana", "message", T0, collapse_key="score")
    source = ana.source()
    ana.now_ms += MINUTE
    ana.decides(EventInput(older, source))
    assert ana.verdicts[-1] == "cancelled cancelled_before_arrival", "another lane was slower"
    ana.gets("e4", collapse_key="score")
    assert ana.verdicts[-1] == "delivering routed", "what comes after it is not meant"


def test_superseding_is_a_cancellation_with_an_answer() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", send_at_ms=T0 + HOUR)
    ana.gets("e2", supersedes="e1")
    assert ana.verdicts[1:] == ["cancelled superseded", "delivering routed"]
    assert ana.entries[1].inputs == {"by": "e2"}
    ana.gets("e3", supersedes="e2")
    assert ana.verdicts[3:] == ["noted too_late_to_cancel", "delivering routed"]
    ana.gets("e4", supersedes="e4")
    ana.answers(ana.deliveries[-1], "retry")
    assert ana.verdicts[-1] == "retrying retry_scheduled", "nobody supersedes themselves"


def test_a_newer_event_collapses_what_waits_in_its_category() -> None:
    ana = Person(a_policy(Category("message"), Category("like")), PHONE)
    ana.gets("e1", collapse_key="score", send_at_ms=T0 + HOUR)
    ana.gets("l1", "like", collapse_key="score", send_at_ms=T0 + HOUR)
    ana.gets("e2", collapse_key="score", send_at_ms=T0 + HOUR)
    assert ana.verdicts[2:] == ["cancelled collapsed", "held scheduled"]
    ana.waits_for(HOUR)
    assert sorted(event for event, _ in ana.sent) == ["e2", "l1"]


def test_what_is_expired_collapses_and_supersedes_nothing() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", collapse_key="score", send_at_ms=T0 + HOUR)
    ana.gets("e2", collapse_key="score", supersedes="e1", expires_at_ms=T0)
    ana.waits_for(HOUR)
    assert ana.sent == [("e1", "push")]


def test_a_retry_does_not_overtake_what_is_newer() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", collapse_key="score")
    ana.now_ms += MINUTE
    ana.gets("e2", collapse_key="score")
    ana.answers(ana.deliveries[0], "retry")
    assert ana.verdicts[-1] == "cancelled collapsed"
    ana.answers(ana.deliveries[1], "retry")
    assert ana.verdicts[-1] == "retrying retry_scheduled"


def test_an_older_event_from_a_slower_lane_is_collapsed_on_arrival() -> None:
    ana = Person(a_policy(), PHONE)
    source = ana.source()
    ana.now_ms += LATE_LANE_MS
    ana.gets("new", collapse_key="score")
    ana.decides(EventInput(Event("old", "ana", "message", T0, collapse_key="score"), source))
    assert ana.verdicts == ["delivering routed", "cancelled collapsed"]


def test_the_number_of_collapse_keys_remembered_is_bounded() -> None:
    ana = Person(a_policy(bounds=Bounds(collapse_keys_max=3)), PHONE, MAIL)
    for number in range(6):
        ana.gets(f"e{number}", collapse_key=f"k{number}")
        ana.waits_for(MINUTE)
    assert sorted(ana.state.waiting.newest) == ["message|k3", "message|k4", "message|k5"]


def test_a_cancellation_with_an_absurd_id_is_a_dead_letter() -> None:
    ana = Person(a_policy(), PHONE)
    ana.cancels("x" * 1_000)
    ana.cancels(collapse_key="x" * 1_000)
    assert [d.dead_letters[0].reason for d in ana.decisions] == ["id_too_long"] * 2


def test_a_collapse_key_reaches_into_a_digest_that_is_closed_and_held() -> None:
    category = Category("message", digest=DigestRule(mode="window", window_ms=HOUR))
    ana = Person(a_policy(category), PHONE, quiet_hours=(QuietWindow(12 * 60 + 30, 20 * 60),))
    ana.gets("e1", collapse_key="score")
    ana.gets("e2", collapse_key="price")
    ana.gets("e3")
    ana.waits_for(2 * HOUR)
    (held,) = ana.state.waiting.held
    assert held.notification.collapse == {"score": "e1", "price": "e2"}
    ana.forget_effects()
    ana.gets("e4", collapse_key="score")
    assert ana.verdicts[0] == "cancelled collapsed"
    assert ana.entries[0].event_id == "e1"
    assert ana.state.waiting.held[0].notification.collapse == {"price": "e2"}
    ana.forget_effects()
    ana.cancels(collapse_key="price")
    assert ana.verdicts == ["cancelled cancelled"]
    assert [held.notification.count for held in ana.state.waiting.held] == [1, 1]
    ana.cancels(collapse_key="price")
    assert len(ana.verdicts) == 1, "answered before"
    ana.waits_for(20 * HOUR)
    told = [item.event_id for delivery in ana.deliveries for item in delivery.items]
    assert told.count("e3") == 1
    assert "e1" not in told
    assert "e2" not in told


def test_an_event_with_all_that_its_category_requires_is_told() -> None:
    ana = Person(a_policy(Category("message", requires=("what", "who"))), PHONE)
    ana.gets("e1", data={"who": "", "what": "x", "more": "y"})
    ana.gets("e2", data={"what": "x"})
    assert ana.verdicts == ["delivering routed", "dead_lettered missing_field"]
    assert ana.entries[-1].inputs == {"field": "data.who"}
