"""What became of an event, from literal entries and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import topics
from streams.ledger.model import Status, Subject, facts_of
from tests.ledger.build import CODEC, T0, answer, decision, entry, fact, sent

PUSH = ("d1", 1, "push")
MAIL = ("d2", 1, "email")
FIRST = (topics.EVENTS_NORMAL, 3, 10)
AGAIN = (topics.EVENTS_NORMAL, 3, 99)
FEEDBACK = (topics.FEEDBACK, 3, 7)


def closed(*digests: str):  # type: ignore[no-untyped-def]
    return lambda digest_id: digest_id in digests


def status_of(*facts, answers=(), digests=()) -> Status | None:  # type: ignore[no-untyped-def]
    subject = Subject()
    for one in facts:
        subject.add(one)
    for one in answers:
        subject.answer(one)
    return subject.status(closed(*digests))


@pytest.mark.parametrize("verdict", ["suppressed", "dropped", "expired", "cancelled"])
def test_a_final_verdict_is_the_state(verdict: str) -> None:
    found = status_of(fact(0, verdict, reason="why", source=FIRST))
    assert found == Status(verdict, "why")  # type: ignore[arg-type]


def test_handed_over_waits_for_the_provider_until_it_answers() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    assert status_of(routed) == Status("open", "routed", "provider")
    found = status_of(routed, answers=[answer("accepted")])
    assert found == Status("delivered", "accepted", channels=("push",))


def test_a_refusal_waits_for_the_decision_that_follows() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    refused = [answer("rejected")]
    assert status_of(routed, answers=refused) == Status("open", "routed", "decision")
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    assert status_of(routed, dropped, answers=refused) == Status("dropped", "rejected")


def test_one_channel_is_enough_to_be_delivered() -> None:
    routed = fact(0, "delivering", tries=(PUSH, MAIL), source=FIRST)
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    answers = [answer("rejected"), answer("accepted", "d2", channel="email")]
    found = status_of(routed, dropped, answers=answers)
    assert found == Status("delivered", "accepted", channels=("email",))


def test_a_verdict_on_one_delivery_does_not_end_the_others() -> None:
    routed = fact(0, "delivering", tries=(PUSH, MAIL), source=FIRST)
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    found = status_of(routed, dropped, answers=[answer("rejected")])
    assert found == Status("open", "rejected", "provider")
    retrying = fact(2, "retrying", reason="retry_scheduled", tries=(MAIL,), until_ms=T0 + 9)
    both = [answer("rejected"), answer("retry", "d2")]
    late_drop = fact(3, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    found = status_of(routed, retrying, late_drop, answers=both)
    assert found == Status("open", "rejected", "retry", T0 + 9)


def test_a_retry_is_a_new_try_of_the_same_delivery() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    retrying = fact(1, "retrying", tries=(PUSH,), until_ms=T0 + 50, source=FEEDBACK)
    retried = fact(2, "delivering", reason="retried", tries=(("d1", 2, "push"),))
    first = answer("retry")
    assert status_of(routed, retrying, answers=[first]) == Status(
        "open", "routed", "retry", T0 + 50
    )
    found = status_of(routed, retrying, retried, answers=[first])
    assert found == Status("open", "retried", "provider")
    second = answer("accepted", attempt=2, decided_at_ms=T0 + 2)
    found = status_of(routed, retrying, retried, answers=[first, second])
    assert found is not None
    assert found.state == "delivered"


def test_a_redrive_is_a_new_try_although_its_attempt_has_the_same_number() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    dead = fact(1, "dead_lettered", reason="attempts_exhausted", tries=(PUSH,), source=FEEDBACK)
    redriven = fact(2, "delivering", reason="redriven", tries=(PUSH,), source=FEEDBACK)
    first = answer("retry")
    found = status_of(routed, dead, answers=[first])
    assert found == Status("dead_lettered", "attempts_exhausted")
    found = status_of(routed, dead, redriven, answers=[first])
    assert found == Status("open", "redriven", "provider")
    second = answer("accepted", epoch=1, decided_at_ms=T0 + 2)
    found = status_of(routed, dead, redriven, answers=[first, second])
    assert found is not None
    assert found.state == "delivered"


def test_held_says_what_for_and_until_when_and_release_ends_it() -> None:
    held = fact(0, "held", reason="quiet_hours", until_ms=T0 + 100, source=FIRST)
    assert status_of(held) == Status("open", "quiet_hours", "quiet_hours", T0 + 100)
    assert status_of(held, fact(1, "suppressed", reason="opted_out")) == Status(
        "suppressed", "opted_out"
    )


def test_digested_is_final_once_the_digest_is_closed() -> None:
    digested = fact(0, "digested", reason="digested", digest_id="x", until_ms=T0 + 9, source=FIRST)
    assert status_of(digested) == Status("open", "digested", "digest", T0 + 9, "x")
    assert status_of(digested, digests=["x"]) == Status("digested", "digested", digest_id="x")
    left = fact(1, "cancelled", reason="cancelled", digest_id="x")
    assert status_of(digested, left, digests=["x"]) == Status("cancelled", "cancelled")


def test_an_empty_digest_is_cancelled_and_a_closed_one_goes_on() -> None:
    empty = fact(0, "digest_closed", reason="digest_empty", event_id=None)
    assert status_of(empty) == Status("cancelled", "digest_empty")
    due = fact(0, "digest_closed", reason="digest_due", event_id=None)
    routed = fact(0, "delivering", index=1, event_id=None, tries=(PUSH,))
    assert status_of(due, routed) == Status("open", "routed", "provider")


def test_a_repeat_changes_nothing_and_alone_is_a_duplicate() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    repeat = fact(1, "duplicate", reason="duplicate", source=AGAIN)
    found = status_of(routed, repeat, answers=[answer("accepted")])
    assert found is not None
    assert found.state == "delivered"
    assert status_of(fact(1, "conflict", reason="conflict")) == Status("duplicate", "conflict")


def test_accepted_again_after_the_horizon_is_a_new_life() -> None:
    first = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    again = fact(100, "delivering", tries=(PUSH,), source=AGAIN)
    found = status_of(first, again, answers=[answer("accepted")])
    assert found == Status("open", "routed", "provider")
    second = answer("accepted", decided_at_ms=T0 + 100)
    subject = Subject()
    subject.add(first)
    subject.add(again)
    subject.answer(second)
    states = [life.status(closed()).state for life in subject.lives]
    assert states == ["open", "delivered"]


def test_what_another_event_does_to_it_is_no_new_life() -> None:
    newer = entry("delivering", "newer", at=99, deliveries=(sent("d2"),))
    replaced = entry("cancelled", "older", reason="superseded", at=99)
    too_late = entry("noted", "oldest", reason="too_late_to_cancel", at=99)
    record = decision(5, replaced, too_late, newer)
    facts = list(facts_of(CODEC.decode("decision", record.value), 5))
    assert [one.decides_record for one in facts] == [False, False, True]
    held = fact(0, "held", reason="quiet_hours", until_ms=T0 + 100, source=FIRST)
    subject = Subject()
    subject.add(held)
    subject.add(facts[0])
    assert len(subject.lives) == 1
    assert subject.status(closed()) == Status("cancelled", "superseded")


def test_an_event_that_came_after_its_replacement_is_its_own_verdict() -> None:
    record = decision(5, entry("cancelled", "older", reason="collapsed", at=99))
    (only,) = facts_of(CODEC.decode("decision", record.value), 5)
    assert only.decides_record


def test_a_pending_escalation_keeps_it_open_after_a_refusal() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), escalates_at_ms=T0 + 60, source=FIRST)
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    refused = [answer("rejected")]
    assert status_of(routed, dropped, answers=refused) == Status(
        "open", "rejected", "escalation", T0 + 60
    )
    nothing_left = fact(2, "noted", reason="no_destination")
    assert status_of(routed, dropped, nothing_left, answers=refused) == Status(
        "dropped", "rejected"
    )


def test_a_step_that_was_held_and_came_to_nothing_leaves_the_earlier_end() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), escalates_at_ms=T0 + 60, source=FIRST)
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    held = fact(2, "held", reason="quiet_hours", until_ms=T0 + 90)
    nothing = fact(3, "noted", reason="opted_out")
    found = status_of(routed, dropped, held, nothing, answers=[answer("rejected")])
    assert found == Status("dropped", "rejected")


def test_a_held_step_that_is_ended_waits_for_nothing() -> None:
    routed = fact(0, "delivering", tries=(PUSH,), escalates_at_ms=T0 + 60, source=FIRST)
    dropped = fact(1, "dropped", reason="rejected", tries=(PUSH,), source=FEEDBACK)
    held = fact(2, "held", reason="quiet_hours", until_ms=T0 + 90)
    ended = fact(3, "noted", reason="escalation_ended")
    refused = [answer("rejected")]
    found = status_of(routed, dropped, held, ended, answers=refused)
    assert found == Status("dropped", "rejected")
    found = status_of(routed, dropped, ended, answers=refused)
    assert found == Status("dropped", "rejected")


TRIES = st.sampled_from([("d1", 1), ("d1", 2), ("d2", 1)])


@given(
    st.lists(st.tuples(TRIES, st.sampled_from(["accepted", "retry", "rejected"])), max_size=6),
    st.randoms(use_true_random=False),
)
def test_answers_commute_and_repeat_without_effect(answers, random) -> None:  # type: ignore[no-untyped-def]
    facts = [
        fact(0, "delivering", tries=(PUSH, MAIL), source=FIRST),
        fact(1, "retrying", tries=(PUSH,), until_ms=T0 + 5, source=FEEDBACK),
        fact(2, "delivering", reason="retried", tries=(("d1", 2, "push"),)),
    ]
    given_once = [answer(status, d, attempt=a) for (d, a), status in answers]
    shuffled = [*given_once, *given_once]
    random.shuffle(shuffled)
    assert status_of(*facts, answers=given_once) == status_of(*facts, answers=shuffled)


def test_a_receipt_that_ends_the_retries_is_evidence_of_delivery() -> None:
    """A provider lost its answer, the person saw the message: nothing is left to wait for."""
    routed = fact(0, "delivering", tries=(PUSH,), source=FIRST)
    retrying = fact(1, "retrying", tries=(PUSH,), until_ms=T0 + 50, source=FEEDBACK)
    seen = fact(2, "noted", reason="retry_ended", tries=(PUSH,), source=(topics.RECEIPTS, 3, 1))
    found = status_of(routed, retrying, seen, answers=[answer("ambiguous")])
    assert found == Status("delivered", "retry_ended", channels=("push",))
