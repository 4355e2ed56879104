"""The demo's own judgement: a good run is good, and each way of not adding up is seen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from streams.ledger.report import Report
from streams.local.demo_verdict import fingerprint_of, what_is_wrong

EVENTS, RUBBISH = 1_000, 9


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "accepted": EVENTS + 3,
        "states": Counter(delivered=600, digested=400, dead_lettered=3),
        "delivered": Counter(push=600),
        "dead_letters": Counter(malformed=RUBBISH),
        "received": 640,
        "received_ids": 640,
    }
    return Report(**(fields | changes))


def wrong(books: Report, killed: str | None = None, crashes: tuple[str, ...] = ()) -> str:
    return "; ".join(what_is_wrong(books, EVENTS, RUBBISH, killed, crashes))


def test_nothing_is_wrong_with_a_good_run() -> None:
    assert wrong(report()) == ""


@pytest.mark.parametrize(
    ("books", "says"),
    [
        (report(accepted=EVENTS + 4), "1,004 events were accepted, 1,003 were sent"),
        (report(states=Counter(delivered=600)), "the audit found problems"),
        (report(problem_count=1), "the audit found problems"),
        (
            report(states=Counter(delivered=1_000), open=Counter(provider=3)),
            "3 events are still open",
        ),
        (report(dead_letters=Counter(malformed=8)), "8 dead letters, 9 unreadable"),
        (report(repeats=2), "2 messages were sent twice"),
    ],
)
def test_what_does_not_add_up_is_said(books: Report, says: str) -> None:
    assert says in wrong(books)


def test_a_kill_may_repeat_what_was_in_flight() -> None:
    assert wrong(report(repeats=2), killed="deliver") == ""


def test_a_process_that_ends_by_itself_is_never_fine() -> None:
    assert "deliver" in wrong(report(), killed="decide", crashes=("deliver",))


def test_the_digest_is_over_what_must_not_differ() -> None:
    assert fingerprint_of(report()) == fingerprint_of(
        report(seconds=3.0, repeats=2, answers_repeated=4)
    )
    assert fingerprint_of(report()) != fingerprint_of(report(delivered=Counter(push=599, email=1)))
