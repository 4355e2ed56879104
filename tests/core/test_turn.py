"""One decision in the making: what waits and how long, what is ended, what was left alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core import ids, sizes
from streams.core.model import Held, Notification, RecipientState, Waiting, packed
from streams.core.policy import Bounds, Policy
from streams.core.state_codec import next_due_ms
from streams.core.terms import Course
from streams.core.turn import Turn
from tests.core.build import HOUR, NOWHERE, PHONE, T0, Person, a_policy

TOLD = Notification("n", "message", "normal", T0, T0, T0 + HOUR, {}, "e1", count=3)


def a_turn(policy: Policy | None = None, held: int = 0) -> Turn:
    waits = Held(packed(TOLD), T0 + HOUR, "scheduled", T0, size_bytes=100)
    state = RecipientState("ana", 1, waiting=Waiting(held=(waits,) * held))
    return Turn(state, T0, policy or a_policy(), NOWHERE)


@pytest.mark.parametrize(
    ("due_ms", "expected"),
    [
        (T0 + 5, T0 + 5),
        (T0 + 1, T0 + 1),
        (T0, T0 + 1),
        (T0 - 5, T0 + 1),
        (T0 + HOUR - 1, T0 + HOUR - 1),
        (T0 + HOUR, T0 + HOUR),
        (T0 + 2 * HOUR, T0 + HOUR),
    ],
)
def test_it_waits_for_a_later_time_and_not_beyond_its_expiry(due_ms: int, expected: int) -> None:
    turn = a_turn()
    turn.hold(TOLD, due_ms, "snoozed", {"a": "b"}, Course(2, ("d1",)))
    (held,) = turn.waiting.held
    assert held == Held(
        packed(TOLD), expected, "snoozed", T0, 2, ("d1",), sizes.notification_bytes(TOLD), "", 0
    )
    (entry,) = turn.entries
    assert (entry.verdict, entry.reason, entry.until_ms) == ("held", "snoozed", expected)
    assert (entry.inputs, entry.count, entry.source) == ({"a": "b"}, 3, NOWHERE)
    assert turn.decision().notify_at_ms == expected


def test_what_is_expired_waits_for_the_next_moment() -> None:
    turn = a_turn()
    turn.hold(replace(TOLD, expires_at_ms=T0), T0 + 5, "snoozed")
    assert turn.waiting.held[0].due_ms == T0 + 1
    odd = Turn(turn.state, T0 + 1, a_policy(), NOWHERE)
    odd.hold(TOLD, T0, "snoozed")
    assert odd.waiting.held[0].due_ms == T0 + 2


def test_a_local_time_is_kept_and_weighed() -> None:
    turn = a_turn()
    turn.hold(TOLD, T0 + 5, "scheduled", send_at_local="2026-03-01T12:00", lifetime_ms=7)
    (held,) = turn.waiting.held
    assert (held.send_at_local, held.lifetime_ms) == ("2026-03-01T12:00", 7)
    assert held.size_bytes == sizes.notification_bytes(TOLD) + 16
    assert (held.step, held.delivery_ids) == (0, ())


@pytest.mark.parametrize(
    ("held_max", "held", "waits"), [(3, 2, True), (3, 3, False), (3, 4, False), (0, 0, False)]
)
def test_only_so_many_wait(held_max: int, held: int, waits: bool) -> None:
    turn = a_turn(a_policy(bounds=Bounds(held_max=held_max)), held)
    turn.hold(TOLD, T0 + 5, "snoozed")
    assert len(turn.waiting.held) == held + waits
    assert turn.entries[-1].verdict == ("held" if waits else "dropped")
    if not waits:
        assert turn.entries[-1].reason == "held_overflow"
        assert turn.entries[-1].inputs == {"limit": f"{held_max} or 524288 bytes"}


def test_only_so_many_bytes_wait() -> None:
    weight = sizes.notification_bytes(TOLD)
    for more, waits in ((weight, True), (weight - 1, False)):
        turn = a_turn(a_policy(bounds=Bounds(waiting_bytes_max=200 + more)), held=2)
        assert turn.has_room(weight) is waits
        assert turn.has_room(more)
        turn.hold(TOLD, T0 + 5, "snoozed")
        assert len(turn.waiting.held) == 2 + waits


def test_a_later_step_that_finds_no_room_is_only_noted() -> None:
    turn = a_turn(a_policy(bounds=Bounds(held_max=0)))
    turn.hold(TOLD, T0 + 5, "snoozed", course=Course(1))
    assert turn.entries[-1].verdict == "noted"


def test_a_first_step_is_ended_and_a_later_one_noted() -> None:
    for step, verdict in ((0, "expired"), (1, "noted"), (2, "noted")):
        turn = a_turn()
        turn.end(TOLD, Course(step), "expired", "expired", {"a": "b"})
        (entry,) = turn.entries
        assert (entry.verdict, entry.reason, entry.inputs) == (verdict, "expired", {"a": "b"})
        assert (entry.subject_id, entry.category, entry.event_id) == ("n", "message", "e1")


def test_a_remark_counts_as_one_and_a_verdict_as_all() -> None:
    turn = a_turn()
    turn.note_about(TOLD, "step_ended", {"by": "seen"})
    turn.conclude(TOLD, "dropped", "rate_limited", digest_id="d")
    noted, dropped = turn.entries
    assert (noted.count, noted.verdict, noted.subject_id) == (1, "noted", "n")
    assert (noted.category, noted.event_id, noted.inputs) == ("message", "e1", {"by": "seen"})
    assert (dropped.count, dropped.digest_id, dropped.until_ms) == (3, "d", None)


def test_what_cannot_be_decided_is_a_dead_letter_and_a_verdict() -> None:
    turn = a_turn()
    turn.bury(TOLD, "unknown_category", {"category": "message"})
    (letter,) = turn.dead_letters
    assert (letter.reason, letter.detail) == ("unknown_category", "{'category': 'message'}")
    assert (letter.source, letter.delivery) == (NOWHERE, None)
    assert turn.entries[0].verdict == "dead_lettered"


def test_a_state_that_nobody_touched_is_the_same_object() -> None:
    turn = a_turn()
    assert turn.decision().state is turn.state
    for part in ("profile", "activity", "waiting"):
        touched = a_turn()
        setattr(touched, part, replace(getattr(touched, part)))
        made = touched.decision().state
        assert made is not touched.state
        assert (made.recipient_id, made.partition) == ("ana", 1)
        assert getattr(made, part) is getattr(touched, part)
        for other in {"profile", "activity", "waiting"} - {part}:
            assert getattr(made, other) is getattr(touched.state, other)


def test_the_due_time_follows_every_change() -> None:
    turn = a_turn()
    assert turn.next_due_ms() is None
    turn.hold(TOLD, T0 + 9, "snoozed")
    assert turn.next_due_ms() == T0 + 9
    turn.hold(TOLD, T0 + 5, "snoozed")
    assert turn.next_due_ms() == T0 + 5
    turn.wait(held=())
    assert turn.next_due_ms() is None


@pytest.mark.parametrize(
    ("more_due_ms", "expected"),
    [(T0 + HOUR + 1, T0 + HOUR), (T0 + HOUR - 1, T0 + HOUR - 1), (None, T0 + HOUR)],
)
def test_what_waits_too_moves_the_due_time_only_forward(
    more_due_ms: int | None, expected: int
) -> None:
    turn = a_turn(held=1)
    more = () if more_due_ms is None else (Held(packed(TOLD), more_due_ms, "scheduled", T0),)
    turn.wait_too(replace(turn.waiting, held=(*turn.waiting.held, *more)), more_due_ms)
    assert len(turn.waiting.held) == 1 + len(more)
    assert turn.next_due_ms() == expected == next_due_ms(turn.waiting)


def test_the_first_that_waits_is_due_and_what_is_only_remembered_is_not() -> None:
    turn = a_turn()
    turn.wait_too(replace(turn.waiting, newest={"message|score": T0}), None)
    assert turn.next_due_ms() is None
    turn.wait_too(Waiting(held=(Held(packed(TOLD), T0 + 3, "scheduled", T0),)), T0 + 3)
    assert turn.next_due_ms() == T0 + 3


def test_the_hash_of_an_event_is_that_of_the_event_asked_for() -> None:
    turn = a_turn()
    for event_id in ("e1", "e1", "e2", "", "e1"):
        assert turn.hash_of(event_id) == ids.hash8(event_id)


def test_a_remark_about_the_recipient_has_an_id_of_its_own() -> None:
    turn = a_turn()
    assert turn.subject_id("a") != turn.subject_id("b")
    assert turn.subject_id("a").startswith("001")
    other = Turn(RecipientState("bea", 1), T0, a_policy(), NOWHERE)
    assert turn.subject_id("a") != other.subject_id("a")


def test_a_decision_carries_all_effects_in_their_order() -> None:
    ana = Person(a_policy(), PHONE)
    decision = ana.gets("e1")
    assert (len(decision.deliveries), len(decision.entries)) == (1, 1)
    assert (decision.dead_letters, decision.claims) == ((), ())
