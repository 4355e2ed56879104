"""Traces, timelines and reasons from literal records."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.ledger.documents import Count
from streams.ledger.model import Status
from streams.ledger.queries import LedgerQueries
from streams.ledger.rows import HOUR_MS
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from tests.ledger.build import (
    ANN,
    CODEC,
    T0,
    FakeRecord,
    decision,
    entry,
    outcome,
    receipt,
    rows_of,
    sent,
)

DIGEST = "003" + "a" * 29
X_PUSH = "003" + "b" * 29


@pytest.fixture
def queries(tmp_path: Path):  # type: ignore[no-untyped-def]
    settings = LedgerSettings(timeline_rows_max=5, members_shown_max=2)
    store = LedgerStore(tmp_path, 3, settings)
    yield LedgerQueries(store, CODEC)
    store.close()


def file(queries: LedgerQueries, *records: FakeRecord) -> None:
    queries.store.write(rows_of(*records), {})


def test_the_trace_of_an_event_that_was_retried_and_seen(queries: LedgerQueries) -> None:
    routed = entry("delivering", deliveries=(sent(),), at=40)
    retrying = entry("retrying", reason="retry_scheduled", deliveries=(sent(),), until_ms=T0 + 60)
    retried = entry("delivering", reason="retried", deliveries=(sent(attempt=2),))
    file(
        queries,
        decision(0, routed, entry("held", "other", at=41), at_ms=T0),
        outcome(0, status="retry", reason="unavailable"),
        decision(1, retrying, at_ms=T0 + 50),
        decision(2, retried, at_ms=T0 + 60),
        outcome(1, attempt=2, decided_at_ms=T0 + 60),
        receipt(0, T0 + 900, delivery_id="d" * 32),
        receipt(1, T0 + 950, event_id="other"),
    )
    trace = queries.event(ANN, "e1")
    assert trace is not None
    assert trace.status == Status("delivered", "accepted", channels=("push",))
    assert [one.verdict for one in trace.entries] == ["delivering", "retrying", "delivering"]
    assert [one.status for one in trace.outcomes] == ["retry", "accepted"]
    assert [one.kind for one in trace.receipts] == ["seen"]
    assert trace.entries[0].source_offset == 40
    assert (trace.event_id, trace.recipient_id, trace.category) == ("e1", ANN, "message")
    assert queries.notification(trace.subject_id) == trace
    assert queries.notification("d" * 32) == trace, "a delivery's id finds what it delivers"


def test_an_event_in_a_digest_has_the_digest_in_its_trace(queries: LedgerQueries) -> None:
    names = ("e1", "e2", "e3", "left")
    for n, name in enumerate(names):
        digested = entry("digested", name, reason="digested", digest_id=DIGEST, at=n)
        file(queries, decision(n, digested, at_ms=T0 + n))
    left = entry("cancelled", "left", reason="cancelled", digest_id=DIGEST)
    file(queries, decision(10, left, at_ms=T0 + 20))
    before = queries.event(ANN, "e1")
    assert before is not None
    assert before.status == Status("open", "digested", "digest", None, DIGEST)
    gathering = queries.notification(DIGEST)
    assert gathering is not None
    assert (gathering.member_count, gathering.members) == (3, ["e1", "e2"])
    assert gathering.status.state == "open"

    closing = entry(
        "digest_closed", None, subject_id=DIGEST, digest_id=DIGEST, reason="digest_due", count=3
    )
    routed = entry("delivering", None, subject_id=DIGEST, count=3, deliveries=(sent(X_PUSH),))
    file(queries, decision(11, closing, routed, at_ms=T0 + HOUR_MS))
    file(
        queries,
        outcome(
            0, delivery_id=X_PUSH, notification_id=DIGEST, event_id=None, decided_at_ms=T0 + HOUR_MS
        ),
    )
    trace = queries.event(ANN, "e1")
    assert trace is not None
    assert trace.status == Status("digested", "digested", digest_id=DIGEST)
    assert trace.digest is not None
    assert trace.digest.status.state == "delivered"
    assert trace.digest.member_count == 3
    assert [one.verdict for one in trace.digest.entries] == ["digest_closed", "delivering"]
    gone = queries.event(ANN, "left")
    assert gone is not None
    assert gone.status.state == "cancelled"


def test_what_was_never_seen_has_no_trace(queries: LedgerQueries) -> None:
    assert queries.event(ANN, "nothing") is None
    assert queries.notification("003" + "0" * 29) is None


def test_a_timeline_in_pages(queries: LedgerQueries) -> None:
    for n in range(12):
        file(queries, decision(n, entry("suppressed", f"e{n}", reason="opted_out"), at_ms=T0 + n))
    seen, before = [], None
    while True:
        page = queries.timeline(ANN, before, 100)
        seen += [item.time_ms - T0 for item in page.items]
        before = page.before
        if before is None:
            break
        assert len(page.items) == 5
    assert seen == list(range(11, -1, -1))
    first = queries.timeline(ANN, None, 1).items[0].entries
    assert first is not None
    assert first[0].sentence.startswith("The recipient does not want it")
    with pytest.raises(ValueError):
        queries.timeline(ANN, "not hex", 5)


def test_reasons_of_the_last_hours(queries: LedgerQueries) -> None:
    opted_out = entry("suppressed", reason="opted_out")
    file(queries, decision(0, opted_out, at_ms=T0), decision(1, opted_out, at_ms=T0 + 3 * HOUR_MS))
    hour_ms = T0 // HOUR_MS * HOUR_MS
    newest = Count("message", "", "suppressed", "opted_out", 1, hour_ms + 3 * HOUR_MS)
    assert queries.reasons(1) == [newest]
    assert len(queries.reasons(4)) == 2
    state, counts = queries.totals()
    assert counts == [Count("message", "", "suppressed", "opted_out", 2)]
    assert state.partition == 3


def test_an_unknown_category_is_no_counter_of_its_own(queries: LedgerQueries) -> None:
    odd = entry("dead_lettered", reason="unknown_category", category="made-up")
    file(queries, decision(0, odd))
    assert queries.totals()[1][0].category == "(unknown)"
