"""The audit on literal books: it must balance good ones and catch each way of being wrong."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from streams import topics
from streams.ledger.audit import FORWARDED, Crossing, PartitionAudit, accepted_of
from streams.ledger.documents import Count, PartitionTotals, Totals
from streams.ledger.ledger_check import _compare_counts, _standing
from streams.ledger.report import Report, render
from tests.ledger.build import (
    ANN,
    CODEC,
    T0,
    decision,
    entry,
    outcome_fields,
    sent,
    subject_of,
)

DIGEST = "003" + "a" * 29
NORMAL = topics.EVENTS_NORMAL


def delivery(number: int) -> str:
    return f"003{number:029x}"


class Books:
    """One partition's records, audited by ``report``."""

    def __init__(self, received: dict[str, int] | None = None, decisions_start: int = 0) -> None:
        self.received = received
        self.found = Report()
        self.crossing = Crossing(self.found, None if received is None else list(received), 10)
        self.audit = PartitionAudit(self.crossing, decisions_start)
        self.offset = 0

    def event(
        self, event_id: str | None, offset: int, partition: int = 3, home: int = 3,
        headers: tuple[tuple[str, bytes], ...] = (), at_ms: int = T0,
    ) -> None:  # fmt: skip
        names = None if event_id is None else (event_id, ANN)
        self.audit.event(accepted_of((NORMAL, partition, offset), names, home, headers, at_ms))

    def decide(self, *entries: Any, at_ms: int = T0) -> None:
        record = decision(self.offset, *entries, at_ms=at_ms)
        self.audit.decision(CODEC.decode("decision", record.value), self.offset, at_ms)
        self.offset += 1

    def answer(self, **fields: Any) -> None:
        self.audit.outcome(outcome_fields(**fields))

    def dead(self, offset: int, reason: str = "undecodable") -> None:
        letter = {"reason": reason, "topic": NORMAL, "partition": 3, "offset": offset}
        self.audit.dead_letter(letter)

    def report(self, taken: int = 100) -> Report:
        self.audit.finish({NORMAL: taken})
        self.crossing.finish()
        if self.received is not None:
            self.crossing.check_received(self.received)
        return self.found


def good_books(received: dict[str, int] | None = None) -> Books:
    """One event of each fate."""
    books = Books(received)
    for offset, name in enumerate(("sent", "no", "over", "in", "held", "sent", None, "late")):
        books.event(name, offset)
    books.decide(entry("delivering", "sent", at=0, deliveries=(sent(delivery(1)),)))
    books.answer(delivery_id=delivery(1), notification_id=subject_of("sent"))
    books.decide(
        entry("suppressed", "no", reason="opted_out", at=1),
        entry("dropped", "over", reason="rate_limited", at=2),
        entry("digested", "in", reason="digested", digest_id=DIGEST, at=3),
        entry("held", "held", reason="quiet_hours", until_ms=T0 + 9, at=4),
        entry("duplicate", "sent", reason="duplicate", at=5),
    )
    books.dead(6)
    books.decide(
        entry("digest_closed", None, subject_id=DIGEST, digest_id=DIGEST, reason="digest_due"),
        entry("delivering", None, subject_id=DIGEST, deliveries=(sent(delivery(2), "email"),)),
    )
    books.answer(delivery_id=delivery(2), notification_id=DIGEST, channel="email")
    books.decide(entry("expired", "late", reason="expired", at=7))
    return books


def test_good_books_balance() -> None:
    report = good_books({delivery(1): 1, delivery(2): 1}).report()
    assert report.problems == []
    assert (report.accepted, report.terminal, report.still_open, report.remainder) == (8, 7, 1, 0)
    assert report.adds_up
    assert report.exit_status == 0
    assert report.states == {
        "delivered": 1, "suppressed": 1, "dropped": 1, "digested": 1, "duplicate": 1,
        "dead_lettered": 1, "expired": 1,
    }  # fmt: skip
    assert report.delivered == {"push": 1}
    assert report.reasons["suppressed", "opted_out"] == 1
    assert report.open == {"quiet_hours": 1}
    assert report.held == {"quiet_hours": 1}
    assert report.digests == {"delivered": 1}
    assert report.digests_delivered == {"email": 1}
    assert report.absorbed == {1: 1}
    assert (report.received, report.repeats) == (2, 0)


def test_it_can_be_shown() -> None:
    out = StringIO()
    render(good_books({delivery(1): 1}).report(), Console(file=out, width=120))
    text = out.getvalue()
    for expected in ("accepted", "remainder", "opted_out 1", "quiet_hours 1", "does NOT add up"):
        assert expected in text


def test_an_event_that_nobody_decided_is_a_remainder() -> None:
    books = good_books()
    books.event("lost", 8)
    report = books.report()
    assert report.remainder == 1
    assert report.exit_status == 1
    assert "nothing is known of events.normal/3/8" in report.problems[0]


def test_one_that_was_not_taken_yet_is_open() -> None:
    books = good_books()
    books.event("new", 8)
    report = books.report(taken=8)
    assert report.open["deciding"] == 1
    assert report.adds_up


def test_one_that_was_jumped_over_is_lost_whatever_the_group_says() -> None:
    books = Books()
    books.event("jumped", 0)
    books.event("decided", 1)
    books.decide(entry("expired", "decided", reason="expired", at=1))
    assert books.report(taken=0).remainder == 1


def test_one_that_was_decided_twice_is_caught() -> None:
    books = good_books()
    books.decide(entry("suppressed", "no", reason="opted_out", at=1))
    assert "decided 2 times" in books.report().problems[0]


def test_a_verdict_on_another_event_is_caught() -> None:
    books = Books()
    books.event("e1", 0)
    books.decide(entry("expired", "e2", reason="expired", at=0))
    assert "about another event" in books.report().problems[0]


@pytest.mark.parametrize(("said", "members"), [(2, 1), (0, 1)])
def test_a_digest_that_miscounts_is_caught(said: int, members: int) -> None:
    books = Books()
    for n in range(members):
        books.event(f"e{n}", n)
        books.decide(entry("digested", f"e{n}", reason="digested", digest_id=DIGEST, at=n))
    books.decide(
        entry("digest_closed", None, subject_id=DIGEST, digest_id=DIGEST, count=said,
              reason="digest_empty")
    )  # fmt: skip
    assert f"says it has {said} events, {members} went" in books.report().problems[0]


def test_an_event_may_leave_a_closed_digest_that_is_held() -> None:
    books = Books()
    for n in range(2):
        books.event(f"e{n}", n)
        books.decide(entry("digested", f"e{n}", reason="digested", digest_id=DIGEST, at=n))
    books.decide(
        entry("digest_closed", None, subject_id=DIGEST, digest_id=DIGEST, count=2,
              reason="digest_due"),
        entry("held", None, subject_id=DIGEST, reason="quiet_hours", until_ms=T0 + 5),
    )  # fmt: skip
    books.decide(entry("cancelled", "e0", reason="cancelled", digest_id=DIGEST))
    report = books.report()
    assert report.problems == []
    assert report.states == {"digested": 1, "cancelled": 1}
    assert report.digests == {"open": 1}


def test_what_no_provider_received_is_caught() -> None:
    report = good_books({delivery(1): 1}).report()
    assert report.problems == [f"delivery {delivery(2)} was accepted, but no provider received it"]
    assert report.remainder == 0
    assert report.exit_status == 1


def test_what_was_received_and_never_decided_is_caught() -> None:
    report = good_books({delivery(1): 1, delivery(2): 1, delivery(3): 1}).report()
    assert report.problems == [f"delivery {delivery(3)} was received but never decided"]


def test_a_repeat_must_be_flagged() -> None:
    received = {delivery(1): 2, delivery(2): 1}
    report = good_books(received).report()
    assert report.repeats == 1
    assert "2 times and is not flagged" in report.problems[0]
    books = good_books(received)
    books.answer(
        delivery_id=delivery(1), notification_id=subject_of("sent"), epoch=1, possible_repeat=True
    )
    flagged = books.report()
    assert (flagged.repeats, flagged.repeats_flagged, flagged.problems) == (1, 1, [])


def test_an_answer_to_nothing_is_caught_and_a_repeated_one_is_counted() -> None:
    books = good_books()
    books.answer(delivery_id=delivery(1), notification_id=subject_of("sent"))
    books.answer(delivery_id=delivery(9), notification_id="003" + "9" * 29)
    report = books.report()
    assert report.answers_repeated == 1
    assert report.problems == [f"delivery {delivery(9)} was answered but never decided"]


ORIGIN = (FORWARDED, f"{NORMAL}/5/70".encode())


def test_a_forwarded_record_is_one_event() -> None:
    books = Books()
    books.event("e1", 70, partition=5)
    books.event("e1", 0, headers=(ORIGIN,))
    books.decide(entry("expired", "e1", reason="expired", at=0))
    report = books.report()
    assert (report.accepted, report.forwarded, report.states) == (1, 1, {"expired": 1})
    assert report.adds_up


def test_a_record_on_a_wrong_partition_that_is_not_forwarded_is_lost() -> None:
    books = Books()
    books.event("e1", 70, partition=5)
    report = books.report()
    assert report.remainder == 1
    assert not report.adds_up


def test_a_record_that_is_decided_and_forwarded_too_is_caught() -> None:
    books = Books()
    books.event("e1", 70, partition=5)
    books.dead(70)
    books.audit._dead[NORMAL, 5, 70] = "undecodable"
    books.event("e1", 0, headers=(ORIGIN,))
    books.decide(entry("expired", "e1", reason="expired", at=0))
    assert "decided and forwarded too" in books.report().problems[0]


@pytest.mark.parametrize("header", [b"", b"x", b"events.normal/x/1", b"\xff/1/1"])
def test_a_made_up_mark_of_forwarding_hides_nothing(header: bytes) -> None:
    books = Books()
    books.event("e1", 0, headers=((FORWARDED, header),))
    assert books.report().remainder == 1


def test_a_copy_whose_original_is_gone_stands_for_itself() -> None:
    books = Books()
    books.event("e1", 0, headers=(ORIGIN,))
    books.decide(entry("expired", "e1", reason="expired", at=0))
    report = books.report()
    assert (report.accepted, report.terminal) == (1, 1)


def test_events_older_than_the_log_of_decisions_are_told_apart() -> None:
    books = Books(decisions_start=5)
    books.event("old", 0, at_ms=T0 - 10)
    books.event("e1", 1)
    books.decide(entry("expired", "e1", reason="expired", at=1))
    report = books.report()
    assert (report.accepted, report.unaudited, report.adds_up) == (1, 1, True)


# ------------------------------------------------------------------------- against the ledger


def totals(*counts: Count, positions: dict[str, int] | None = None, **more: Any) -> Totals:
    state = PartitionTotals(3, positions or {topics.DECISIONS: 4, topics.OUTCOMES: 2}, **more)
    return Totals([state], list(counts), True)


READ_TO = {(topics.DECISIONS, 3): 4, (topics.OUTCOMES, 3): 2}


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (totals(), "equal"),
        (totals(positions={topics.DECISIONS: 3, topics.OUTCOMES: 2}), "behind"),
        (totals(positions={topics.DECISIONS: 4}), "behind"),
        (totals(positions={topics.DECISIONS: 5, topics.OUTCOMES: 2}), "other"),
        (totals(lost_records=1), "other"),
        (Totals([], [], False), "behind"),
    ],
)
def test_counts_are_only_compared_at_equal_positions(found: Totals, standing: str) -> None:
    assert _standing(found, READ_TO)[0] == standing


def test_a_ledger_that_counts_otherwise_is_caught() -> None:
    books = good_books()
    books.report()
    own = [
        Count("like", channel, what, reason, n)
        for (what, channel, reason), n in books.crossing.counts.items()
    ]
    assert _compare_counts(totals(*own), books.crossing).startswith("agrees on 11 verdicts")
    assert books.found.adds_up
    assert _compare_counts(totals(*own[1:]), books.crossing) == "1 counts differ"
    assert not books.found.adds_up
