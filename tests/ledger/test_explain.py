"""The words of ``explain``: a plain sentence on top, and everything that led there."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from streams.ledger.documents import Timeline, Trace
from streams.ledger.explain import (
    ExplainDocument,
    Explained,
    clock,
    explain,
    headline,
    render,
)
from streams.ledger.queries import LedgerQueries
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
ZONE = "Europe/Berlin"
QUIET = {"zone": ZONE}


def trace_of(folder: Path, *records: FakeRecord, event_id: str = "e1") -> Trace:
    store = LedgerStore(folder, 3, LedgerSettings())
    store.write(rows_of(*records), {})
    trace = LedgerQueries(store, CODEC).event(ANN, event_id)
    store.close()
    assert trace is not None
    return trace


def printed(trace: Trace) -> str:
    out = StringIO()
    document = ExplainDocument(ANN, trace.event_id, [Explained(headline(trace), trace)])
    render(document, Console(file=out, width=200))
    return out.getvalue()


def routed() -> FakeRecord:
    return decision(0, entry("delivering", deliveries=(sent(),), at=40))


def test_not_sent_says_why_and_what_mattered(tmp_path: Path) -> None:
    opted_out = entry("suppressed", reason="opted_out", inputs={"cell": "like/email"}, at=7)
    trace = trace_of(tmp_path, decision(0, opted_out))
    assert headline(trace) == "Not sent: The recipient does not want it (like/email)."
    text = printed(trace)
    for expected in (
        "event e1 of ann", "suppressed", "opted_out", "mattered: cell = like/email",
        "arrived on events.normal, partition 3, offset 7", "decided by policy v1",
    ):  # fmt: skip
        assert expected in text, text


def test_sent_names_the_channel_the_attempt_and_the_evidence(tmp_path: Path) -> None:
    trace = trace_of(
        tmp_path,
        routed(),
        outcome(0, status="retry", reason="unavailable", detail="HTTP 503"),
        decision(1, entry("retrying", reason="retry_scheduled", deliveries=(sent(),),
                          inputs={"answer": "unavailable"}, until_ms=T0 + 60), at_ms=T0 + 50),
        decision(2, entry("delivering", reason="retried", inputs={"attempt": "2"},
                          deliveries=(sent(attempt=2),)), at_ms=T0 + 60),
        outcome(1, attempt=2, decided_at_ms=T0 + 60, answered_at_ms=T0 + 99),
        receipt(0, T0 + 500, delivery_id="d" * 32),
    )  # fmt: skip
    at = clock(T0 + 99)
    assert headline(trace) == (
        f"Sent: accepted on push (apns) at {at}, at attempt 2. The recipient's side says: seen."
    )
    text = printed(trace)
    for expected in (
        "attempt 1 on push (apns) to phone-1", "apns answered retry, unavailable, HTTP 503",
        "retrying until", "The provider could not take it (unavailable)", "attempt 2 on push",
        "apns answered accepted", "its id p-1", "receipt: seen",
    ):  # fmt: skip
        assert expected in text, text
    assert "no answer yet" not in text


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([routed()], "Handed over; the provider has not answered yet."),
        (
            [decision(0, entry("held", reason="quiet_hours", inputs=QUIET, until_ms=T0))],
            f"Not sent yet: held until {clock(T0)}. It is quiet time for the recipient ({ZONE}).",
        ),
        (
            [decision(0, entry("digested", reason="digested", digest_id=DIGEST, until_ms=T0))],
            f"Not sent yet: it is being gathered into a digest until {clock(T0)}.",
        ),
        (
            [decision(0, entry("duplicate", reason="duplicate"))],
            "Not sent again: An event with this id was accepted before.",
        ),
        (
            [decision(0, entry("dead_lettered", reason="empty_id", inputs={"field": "event_id"}))],
            "Set aside as a dead letter: The event_id is empty.",
        ),
    ],
)
def test_one_sentence_for_each_fate(tmp_path: Path, records: list[FakeRecord], said: str) -> None:
    trace = trace_of(tmp_path, *records)
    assert headline(trace) == said
    assert printed(trace)


def test_a_digested_event_is_told_with_its_digest(tmp_path: Path) -> None:
    trace = trace_of(
        tmp_path,
        decision(0, entry("digested", reason="digested", digest_id=DIGEST, inputs={"mode": "w"})),
        decision(
            1,
            entry("digest_closed", None, subject_id=DIGEST, digest_id=DIGEST, count=7,
                  reason="digest_due"),
            entry("delivering", None, subject_id=DIGEST, deliveries=(sent(X_PUSH),)),
            at_ms=T0 + 5,
        ),
        outcome(0, delivery_id=X_PUSH, notification_id=DIGEST, decided_at_ms=T0 + 5),
    )  # fmt: skip
    assert headline(trace) == (
        "Gathered into a digest of 7. The digest: Digest of 7 sent: accepted on push (apns) at"
        f" {clock(T0 + 40)}."
    )
    text = printed(trace)
    assert "in it: e1 and 6 more" in text
    assert "The digest's time came." in text


async def test_of_a_recipient_a_digest_is_told_once(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, LedgerSettings())
    digested = entry("digested", reason="digested", digest_id=DIGEST)
    closing = entry("digest_closed", None, subject_id=DIGEST, digest_id=DIGEST)
    opted_out = entry("suppressed", "e2", reason="opted_out")
    records = (decision(0, digested), decision(1, closing, at_ms=T0 + 5), decision(2, opted_out))
    store.write(rows_of(*records), {})
    queries = LedgerQueries(store, CODEC)

    class Local:
        async def timeline(self, recipient_id: str) -> Timeline:
            return queries.timeline(recipient_id, None, 100)

        async def notification(self, public_id: str) -> Trace | None:
            return queries.notification(public_id)

    document = await explain(Local(), ANN)  # type: ignore[arg-type]
    store.close()
    assert [one.trace.event_id for one in document.notifications] == ["e2", "e1"]


def test_nothing_known_says_what_it_may_mean() -> None:
    out = StringIO()
    render(ExplainDocument(ANN, "e1", []), Console(file=out, width=100))
    assert "Nothing is recorded about event e1 of ann." in out.getvalue()


def test_text_from_outside_is_never_markup(tmp_path: Path) -> None:
    odd = entry("suppressed", reason="opted_out", inputs={"cell": "[red]x[/red] [bold"})
    assert "[red]x[/red] [bold" in printed(trace_of(tmp_path, decision(0, odd)))


@pytest.mark.parametrize(("time_ms", "text"), [(0, "1970-01-01 00:00:00.000Z"), (1 << 62, None)])
def test_any_time_can_be_shown(time_ms: int, text: str | None) -> None:
    assert clock(time_ms) == (text or f"{time_ms} ms")
