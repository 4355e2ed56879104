"""Consistent books on a real broker: events with their verdicts, answers and receptions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams import topics
from streams.core import ids
from streams.core.model import Entry, Event, Sent, Source
from streams.partitioning import partition_of_recipient
from tests.ledger.build import CODEC, T0, outcome_fields

PARTITIONS = 4
FATES = ("delivering", "suppressed", "duplicate", "held")


def encode_event(event_id: str, recipient_id: str) -> bytes:
    from streams.core.model import struct_to_dict

    fields = struct_to_dict(Event(event_id, recipient_id, "message", T0))
    return CODEC.encode("event", fields)


class KafkaBooks:
    """Writes what producers, DECIDE and the sinks would have written."""

    def __init__(self, bootstrap: str, received: Path) -> None:
        self.bootstrap = bootstrap
        self.received = received
        self.made = 0
        self.offsets: defaultdict[int, int] = defaultdict(int)
        self.plain: Any = None
        self.transactional: Any = None

    async def __aenter__(self) -> KafkaBooks:
        self.plain = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        self.transactional = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id="books"
        )
        await self.plain.start()
        await self.transactional.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.plain.stop()
        await self.transactional.stop()

    async def append(self, count: int) -> None:
        """``count`` more events of 40 recipients, all of whose books balance."""
        events, decisions, outcomes, lines = [], [], [], []
        for number in range(self.made, self.made + count):
            recipient_id = f"member-{number % 40}"
            partition = partition_of_recipient(recipient_id, PARTITIONS)
            event_id = f"e{number}"
            fate = FATES[number % len(FATES)]
            at_ms = T0 + number * 1_000
            offset = self.offsets[partition]
            self.offsets[partition] += 1
            source = Source(topics.EVENTS_NORMAL, partition, offset, at_ms)
            subject_id = ids.to_id(partition, ids.event_digest(event_id, recipient_id))
            delivery_id = ids.delivery_id(partition, subject_id, "push", "phone", 0)
            sent = (Sent(delivery_id, "push", "apns", "phone", 1),)
            entry = Entry(
                subject_id, fate, "routed", "routing", "message", event_id,  # type: ignore[arg-type]
                until_ms=at_ms + 1 if fate == "held" else None,
                deliveries=sent if fate == "delivering" else (), source=source,
            )  # fmt: skip
            key = recipient_id.encode()
            events.append((key, partition, encode_event(event_id, recipient_id)))
            value = CODEC.encode_decision(recipient_id, at_ms, "v1", [entry])
            decisions.append((key, partition, value))
            if fate == "delivering":
                fields = outcome_fields(
                    delivery_id=delivery_id, notification_id=subject_id, event_id=event_id,
                    recipient_id=recipient_id, decided_at_ms=at_ms,
                )  # fmt: skip
                outcomes.append((key, partition, CODEC.encode_outcome(fields)))
                lines.append(json.dumps({"delivery_id": delivery_id, "kind": "apns"}) + "\n")
        self.made += count
        await self._send(self.plain, topics.EVENTS_NORMAL, events)
        async with self.transactional.transaction():
            await self._send(self.transactional, topics.DECISIONS, decisions)
        await self._send(self.plain, topics.OUTCOMES, outcomes)
        with self.received.open("a") as file:
            file.writelines(lines)

    async def abort(self) -> None:
        """A batch that never was: its decisions are in the log, aborted."""
        await self.transactional.begin_transaction()
        value = CODEC.encode_decision("ghost", T0, "v1", [])
        await self._send(
            self.transactional, topics.DECISIONS, [(b"ghost", p, value) for p in range(PARTITIONS)]
        )
        await self.transactional.abort_transaction()

    async def _send(
        self, producer: Any, topic: str, records: Sequence[tuple[bytes, int, bytes]]
    ) -> None:
        futures = [
            await producer.send(topic, key=key, partition=partition, value=value, timestamp_ms=T0)
            for key, partition, value in records
        ]
        for future in futures:
            await future
