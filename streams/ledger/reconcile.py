"""``reconcile``: balances the books from the topics themselves.

Reads every event, decision, outcome and dead letter up to a snapshot of their ends and accounts
for each event (``audit.py``); then compares with what the provider servers received and with the
ledger's own counters. It reads as ``read_committed``, writes nothing, joins no group.

The order of looking makes it safe beside a running system: what the providers had received and
how far DECIDE had come are asked first, then the ends of the events, of the answers, and last of
the decisions. So whatever an earlier answer names, a later one must contain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import TopicPartition

from streams import topics
from streams.codec import Codec, DecodeError
from streams.engine.api import TemporarilyUnavailable
from streams.ledger.audit import Crossing, PartitionAudit, accepted_of
from streams.ledger.ledger_check import compare_ledger
from streams.ledger.log_snapshot import REST, LogSnapshot, ReconcileError
from streams.ledger.report import Report
from streams.ledger.settings import ReconcileSettings
from streams.partitioning import partition_for

__all__ = ["ReconcileError", "read_received", "reconcile"]


class _Received(msgspec.Struct):
    """The part of a provider's line that matters here."""

    delivery_id: str


async def reconcile(
    bootstrap: str,
    settings: ReconcileSettings,
    provider_files: Sequence[Path] = (),
    ledger_url: str | None = None,
) -> Report:
    """Audits everything on the cluster. Raises ``ReconcileError`` when it cannot be read."""
    started = time.monotonic()
    report = Report()
    before = read_received(provider_files) if provider_files else None
    crossing = Crossing(report, before, settings.problems_shown_max)
    codec = Codec(settings.registry_url)
    log = LogSnapshot(bootstrap, settings)
    try:
        await log.start()
        await _audit(log, crossing, codec)
    finally:
        await log.stop()
        await codec.close()
    crossing.finish()
    if provider_files:
        crossing.check_received(read_received(provider_files))
    if ledger_url is not None:
        wait_ms = settings.ledger_wait_ms_max
        report.ledger = await compare_ledger(
            ledger_url, wait_ms, crossing, settings.internal_secret
        )
    report.seconds = time.monotonic() - started
    return report


def read_received(files: Iterable[Path]) -> Counter[str]:
    """Delivery id -> how often providers received it. A last line that was cut by a kill was
    never answered, so it does not count."""
    counts: Counter[str] = Counter()
    decode = msgspec.json.Decoder(_Received).decode
    for file in files:
        try:
            lines = file.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise ReconcileError(f"cannot read {file}: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                continue
            try:
                counts[decode(line).delivery_id] += 1
            except msgspec.DecodeError as error:
                raise ReconcileError(f"{file}, line {number}: {error}") from error
    return counts


async def _audit(log: LogSnapshot, crossing: Crossing, codec: Codec) -> None:
    for partition in log.partitions:
        decisions_start = log.starts[TopicPartition(topics.DECISIONS, partition)]
        audit = PartitionAudit(crossing, decisions_start)
        async for records in log.read(partition, topics.EVENTS):
            await _prepare(codec, records)
            for record in records:
                _add_event(audit, codec, record, len(log.partitions))
        async for records in log.read(partition, REST):
            for record in records:
                _add(audit, codec, crossing, record)
        taken = {t: log.taken.get(TopicPartition(t, partition), 0) for t in topics.EVENTS}
        audit.finish(taken)


async def _prepare(codec: Codec, records: Sequence[Any]) -> None:
    try:
        await codec.prepare([record.value for record in records])
    except TemporarilyUnavailable:
        return  # Their content cannot be compared; whether they were decided still can.


def _add_event(audit: PartitionAudit, codec: Codec, record: Any, partitions: int) -> None:
    """An event's record, and which notification it must have become."""
    place = (record.topic, record.partition, record.offset)
    names: tuple[str, str] | None = None
    key: bytes | None = record.key
    try:
        event = codec.decode_event(record.value)
    except DecodeError:
        pass  # Its verdict is a dead letter; the audit looks for it.
    else:
        names = (event.event_id, event.recipient_id)
        key = event.recipient_id.encode()
    home = None if key is None else partition_for(key, partitions)
    audit.event(accepted_of(place, names, home, record.headers, record.timestamp))


def _add(audit: PartitionAudit, codec: Codec, crossing: Crossing, record: Any) -> None:
    name = {
        topics.DECISIONS: "decision", topics.OUTCOMES: "outcome", topics.DEAD_LETTERS: "dead_letter"
    }[record.topic]  # fmt: skip
    crossing.read_to[record.topic, record.partition] = record.offset + 1
    try:
        fields = codec.decode(name, record.value)
    except DecodeError as error:
        crossing.problem(f"{record.topic}/{record.partition}/{record.offset}: {error}")
        return
    if name == "decision":
        audit.decision(fields, record.offset, record.timestamp)
    elif name == "outcome":
        audit.outcome(fields)
    else:
        audit.dead_letter(fields)
