"""What the ledger answers with: plain documents, the same in Python and in JSON.

The HTTP pages encode them, the client decodes them, ``explain`` renders them. Every time is Unix
milliseconds, UTC. Nothing here holds an address: destinations are named by id.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.ledger.model import Status


class TraceEntry(msgspec.Struct, frozen=True):
    """One verdict, with the sentence that explains it."""

    decided_at_ms: int
    offset: int
    subject_id: str
    verdict: str
    reason: str
    rule: str
    sentence: str
    category: str
    policy_version: str
    event_id: str | None = None
    digest_id: str | None = None
    until_ms: int | None = None
    count: int = 1
    deliveries: list[dict[str, Any]] = []
    inputs: dict[str, str] = {}
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | None = None


class TraceOutcome(msgspec.Struct, frozen=True):
    """One provider answer, or why nothing was asked."""

    delivery_id: str
    notification_id: str
    category: str
    channel: str
    kind: str
    provider: str
    destination_id: str
    epoch: int
    attempt: int
    status: str
    reason: str
    decided_at_ms: int
    answered_at_ms: int
    appended_at_ms: int = 0
    """When Kafka took the (first) event; 0 in answers of workers that did not say."""
    send_ms: float = 0.0
    provider_id: str | None = None
    detail: str = ""
    possible_repeat: bool = False
    retry_after_ms: int | None = None


class TraceReceipt(msgspec.Struct, frozen=True):
    """Evidence from outside."""

    kind: str
    occurred_at_ms: int
    notification_id: str | None = None
    delivery_id: str | None = None
    event_id: str | None = None
    name: str | None = None


class Trace(msgspec.Struct, frozen=True):
    """Everything about one notification or digest, oldest first."""

    subject_id: str
    recipient_id: str
    event_id: str | None
    category: str
    status: Status
    entries: list[TraceEntry]
    outcomes: list[TraceOutcome]
    receipts: list[TraceReceipt]
    digest: Trace | None = None
    """The digest that it went into."""
    member_count: int = 0
    """Of a digest: how many events are in it."""
    members: list[str] = []
    """Of a digest: their event ids, the first of them."""
    is_cut: bool = False
    """True when there is more than one answer may hold."""


class TimelineItem(msgspec.Struct, frozen=True):
    """One row of a recipient's history; exactly one of the three is set."""

    time_ms: int
    entries: list[TraceEntry] | None = None
    outcome: TraceOutcome | None = None
    receipt: TraceReceipt | None = None


class Timeline(msgspec.Struct, frozen=True):
    """A page of a recipient's history, newest first."""

    recipient_id: str
    partition: int
    items: list[TimelineItem]
    before: str | None = None
    """Pass it back as ``before`` to go on; ``None`` when this was all."""
    bulk_kept_share: float = 1.0
    """Below 1, of bulk categories only this share of notifications is kept; counts are exact."""


class Count(msgspec.Struct, frozen=True):
    """How often something happened. ``what`` is a verdict, ``answer:STATUS``, ``receipt:KIND``."""

    category: str
    channel: str
    what: str
    reason: str
    count: int
    hour_ms: int | None = None
    """Start of the hour (or day); ``None`` in totals."""


class PartitionTotals(msgspec.Struct, frozen=True):
    """Where one partition's ledger stands: compare counts only at equal positions."""

    partition: int
    positions: dict[str, int]
    repeats: int = 0
    """Answers that were recorded already."""
    lost_records: int = 0
    """Records that their topics no longer had when they were to be read."""
    too_old: int = 0
    """Rows of days that had been dropped."""
    bulk_kept_share: float = 1.0
    """Below 1, of bulk categories only this share of notifications has rows; counts are exact."""


class Totals(msgspec.Struct, frozen=True):
    """Counts over partitions; ``is_complete`` says whether every partition is in them."""

    partitions: list[PartitionTotals]
    counts: list[Count]
    is_complete: bool


class SearchHit(msgspec.Struct, frozen=True):
    """One verdict that fits a search."""

    recipient_id: str
    entry: TraceEntry


class SearchPage(msgspec.Struct, frozen=True):
    """What fits, newest first."""

    hits: list[SearchHit]
    before_ms: int | None
    """Pass it back as ``before`` to go on: everything newer is on this page or was on one before.
    ``None`` when this was all."""
    looked_at: int
    """Decisions that were looked at; a page may have no hit and still say where to go on."""
    is_complete: bool = True
    """False when a partition did not answer: what it knows is not here."""
    bulk_kept_share: float = 1.0
    """Below 1, of bulk categories only this share of notifications is kept; counts are exact."""
