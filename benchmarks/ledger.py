"""What the ledger takes: bytes on disk for each notification, and records a second into one store.

In one process and without a broker: records as the decide and deliver steps write them are decoded
and filed into one partition's database, in batches, as the ledger's runner does. The size is that
of the files after they were compacted, as they are for all of a day's life but its first minutes.

A notification is one event: 7 in 10 are sent (a decision, a provider's answer, and for 3 in 10 of
them a receipt), the others are suppressed or held (a decision).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.report import Benchmark, Figures, Options
from streams import topics
from streams.agents.ledger_filing import rows_of
from streams.codec import Codec
from streams.core import ids
from streams.core.model import Entry, Sent, Source
from streams.ledger.sampling import Sampling
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore

NOTIFICATIONS, NOTIFICATIONS_QUICK = 400_000, 40_000
PARTITION = 3
RECIPIENTS = 20_000
BATCH_RECORDS = 2_000
T0 = 1_772_323_200_000
HOURS = 24
DAY_NOTIFICATIONS = 1_000_000_000
CATEGORIES = ("message", "like", "comment", "reminder", "promo")
POLICY = "9f2c1b7a"


class Filed(msgspec.Struct):
    """A record as the ledger takes it."""

    topic: str
    offset: int
    value: bytes | None
    partition: int = PARTITION
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class History:
    """Records of made-up notifications, in the order of time."""

    def __init__(self, count: int, seed: int = 7) -> None:
        self._draw = random.Random(seed)
        self._codec = Codec()
        self._count = count
        self._offsets = dict.fromkeys((topics.DECISIONS, topics.OUTCOMES, topics.RECEIPTS), 0)

    def records(self) -> Iterator[Filed]:
        """All of them."""
        for number in range(self._count):
            at_ms = T0 + number * HOURS * 3_600_000 // self._count
            yield from self._notification(number, at_ms)

    def _notification(self, number: int, at_ms: int) -> Iterator[Filed]:
        draw = self._draw
        recipient = f"member-{draw.randrange(RECIPIENTS):08}"
        event_id = f"{draw.getrandbits(128):032x}"
        subject = ids.to_id(PARTITION, ids.event_digest(event_id, recipient))
        delivery = ids.delivery_id(PARTITION, subject, "push", "phone", 0)
        category = draw.choice(CATEGORIES)
        source = Source(topics.EVENTS_NORMAL, PARTITION, number, at_ms)
        is_sent = draw.random() < 0.7
        verdict, reason, rule, inputs = (
            ("delivering", "routed", "routing", {"cell": f"policy category {category}"})
            if is_sent
            else ("suppressed", "opted_out", "preferences", {"cell": f"cell {category}/push"})
        )
        sent = (Sent(delivery, "push", "apns", "phone", 1),) if is_sent else ()
        entry = Entry(
            subject,
            verdict,  # type: ignore[arg-type]
            reason,
            rule,
            category,
            event_id,
            None,
            None,
            1,
            sent,
            inputs,
            source,
        )
        value = self._codec.encode_decision(recipient, at_ms, POLICY, [entry])
        yield self._filed(topics.DECISIONS, value, at_ms)
        if is_sent:
            outcome = {
                "delivery_id": delivery, "notification_id": subject, "event_id": event_id,
                "recipient_id": recipient, "category": category, "channel": "push",
                "kind": "apns", "provider": "apns", "destination_id": "phone", "epoch": 0,
                "attempt": 1, "status": "accepted", "reason": "accepted",
                "provider_id": f"{draw.getrandbits(128):032x}", "detail": "",
                "possible_repeat": False, "retry_after_ms": None,
                "delivery_topic": "deliveries.apns", "delivery_offset": number,
                "appended_at_ms": at_ms, "decided_at_ms": at_ms, "answered_at_ms": at_ms + 80,
                "send_ms": draw.random() * 50,
            }  # fmt: skip
            yield self._filed(topics.OUTCOMES, self._codec.encode_outcome(outcome), at_ms + 80)
            if draw.random() < 0.3:
                receipt = {
                    "recipient_id": recipient, "kind": "seen", "notification_id": subject,
                    "delivery_id": delivery, "event_id": None, "destination_id": None,
                    "name": None, "occurred_at_ms": at_ms + 60_000,
                }  # fmt: skip
                value = self._codec.encode("receipt", receipt)
                yield self._filed(topics.RECEIPTS, value, at_ms + 60_000)

    def _filed(self, topic: str, value: bytes, at_ms: int) -> Filed:
        offset = self._offsets[topic]
        self._offsets[topic] = offset + 1
        return Filed(topic, offset, value, timestamp=at_ms)


def size_of(folder: Path) -> int:
    """Bytes of the tables in a folder; logs and manifests do not grow with what is kept."""
    return sum(path.stat().st_size for path in folder.rglob("*.sst"))


def run(options: Options) -> Figures:
    """One repeat."""
    count = options.size(options.events, NOTIFICATIONS, NOTIFICATIONS_QUICK)
    codec, sampling = Codec(), Sampling()
    records = list(History(count).records())
    raw = sum(len(record.value or b"") for record in records)
    with tempfile.TemporaryDirectory() as name:
        store = LedgerStore(Path(name), PARTITION, LedgerSettings())
        began, used = time.perf_counter(), time.process_time()
        for start in range(0, len(records), BATCH_RECORDS):
            batch: list[Any] = records[start : start + BATCH_RECORDS]
            found, _ = rows_of(codec, batch, sampling)
            store.write(found, {record.topic: record.offset + 1 for record in batch})
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
        for number in store.buckets:
            store.compact(number)
        store.close()
        size = size_of(Path(name))
    per_notification = size / count
    return {
        "notifications": count,
        "records": len(records),
        "records_per_second": len(records) / seconds,
        "cpu_us_per_record": cpu_s / len(records) * 1e6,
        "raw_bytes_per_notification": raw / count,
        "disk_bytes_per_notification": per_notification,
        "disk_gb_per_day_at_a_billion": per_notification * DAY_NOTIFICATIONS / 1e9,
    }


BENCHMARK = Benchmark(
    name="ledger", what="the ledger: bytes on disk for each notification, records a second", run=run
)
