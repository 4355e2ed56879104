"""Short literals for the ledger's tests: decisions, answers, receipts, and records of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streams import topics
from streams.codec import Codec
from streams.core import ids
from streams.core.model import Entry, Sent, Source
from streams.ledger.looks import LookNotRecorded
from streams.ledger.model import Answer, Fact
from streams.ledger.rows import Rows, of_decision, of_outcome, of_receipt

CODEC = Codec()
ANN = "ann"
T0 = 1_700_000_000_000


class FakeRecord(msgspec.Struct):
    """What a consumed record offers."""

    topic: str
    offset: int
    value: bytes | None
    partition: int = 3
    timestamp: int = T0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def subject_of(event_id: str, recipient_id: str = ANN, partition: int = 3) -> str:
    return ids.to_id(partition, ids.event_digest(event_id, recipient_id))


def entry(verdict: str, event_id: str | None = "e1", **more: Any) -> Entry:
    """An entry about an event of ann, caused by the record at ``at`` (None: by time)."""
    at = more.pop("at", None)
    topic = more.pop("topic", topics.EVENTS_NORMAL)
    source = None if at is None else Source(topic, 3, at, T0)
    subject_id = more.pop("subject_id", None) or subject_of(event_id or "")
    reason = more.pop("reason", "routed")
    category = more.pop("category", "message")
    return Entry(
        subject_id,
        verdict,  # type: ignore[arg-type]
        reason,
        "rule",
        category,
        event_id,
        source=source,
        **more,
    )


def sent(delivery_id: str = "d" * 32, channel: str = "push", attempt: int = 1) -> Sent:
    return Sent(delivery_id, channel, "apns", "phone-1", attempt)  # type: ignore[arg-type]


def decision(offset: int, *entries: Entry, at_ms: int = T0, recipient_id: str = ANN) -> FakeRecord:
    value = CODEC.encode_decision(recipient_id, at_ms, "v1", entries)
    return FakeRecord(topics.DECISIONS, offset, value)


def outcome_fields(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "delivery_id": "d" * 32, "notification_id": subject_of("e1"), "event_id": "e1",
        "recipient_id": ANN, "category": "message", "channel": "push", "kind": "apns",
        "provider": "apns", "destination_id": "phone-1", "epoch": 0, "attempt": 1,
        "status": "accepted", "reason": "accepted", "provider_id": "p-1", "detail": "",
        "possible_repeat": False, "retry_after_ms": None, "delivery_topic": "deliveries.apns",
        "delivery_offset": 0, "appended_at_ms": T0, "decided_at_ms": T0,
        "answered_at_ms": T0 + 40, "send_ms": 12.5,
    }  # fmt: skip
    return fields | changed


def outcome(offset: int, **changed: Any) -> FakeRecord:
    return FakeRecord(topics.OUTCOMES, offset, CODEC.encode("outcome", outcome_fields(**changed)))


def receipt(offset: int, at_ms: int = T0, **changed: Any) -> FakeRecord:
    fields = {
        "recipient_id": ANN, "kind": "seen", "notification_id": None, "delivery_id": None,
        "event_id": None, "destination_id": None, "name": None, "occurred_at_ms": at_ms,
    } | changed  # fmt: skip
    return FakeRecord(topics.RECEIPTS, offset, CODEC.encode("receipt", fields), timestamp=at_ms)


def rows_of(*records: FakeRecord) -> list[Rows]:
    """What the records become in a store."""
    found = []
    for record in records:
        if record.topic == topics.DECISIONS:
            found.append(of_decision(CODEC.decode("decision", record.value), record))
        elif record.topic == topics.OUTCOMES:
            found.append(of_outcome(CODEC.decode("outcome", record.value), record))
        else:
            found.append(of_receipt(CODEC.decode("receipt", record.value), record))
    return found


def fact(offset: int, verdict: str, **more: Any) -> Fact:
    """A fact about subject ``n``."""
    fields: dict[str, Any] = {
        "offset": offset, "index": 0, "decided_at_ms": T0 + offset, "subject_id": "n",
        "verdict": verdict, "reason": "routed", "category": "message", "event_id": "e1",
        "digest_id": None, "until_ms": None, "count": 1, "tries": (), "source": None,
    } | more  # fmt: skip
    source = fields["source"]
    fields.setdefault("decides_record", source is not None and source[0] in topics.EVENTS)
    return Fact(**fields)


def answer(status: str, delivery_id: str = "d1", **more: Any) -> Answer:
    fields: dict[str, Any] = {
        "delivery_id": delivery_id, "notification_id": "n", "epoch": 0, "attempt": 1,
        "decided_at_ms": T0, "status": status, "reason": status, "channel": "push",
        "kind": "apns", "possible_repeat": False,
    } | more  # fmt: skip
    return Answer(**fields)


class KeptLooks:
    """Keeps looks in a list; implements ``LookLog``."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, str, str | None]] = []
        self.refuses = False

    async def note(
        self,
        who: str,
        what: str,
        recipient_id: str,
        *,
        subject_id: str | None = None,
        revealed: bool = False,
    ) -> None:
        if self.refuses:
            raise LookNotRecorded("a test says so")
        self.kept.append((who, what, recipient_id, subject_id))
