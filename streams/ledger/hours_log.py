"""The counters by hour, once more in Kafka: so that they outlive the disk that counts them.

A ledger that begins with an empty disk (a lost one, or a partition that has moved) reads its topics
again, and they go back a week or so; reasons over time are asked for months. So what an hour's
counters are is written to a compacted topic from time to time, and an empty ledger reads it first.
What it then counts again is never more than what was known of the same hour: the larger holds.

Invariants: a partition writes its counters and no other's; a failed write is repeated; what is
dropped by age is dropped here too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.engine.clients import client_settings
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)
ACK_MS_MAX = 5_000
FETCH_MS = 500


class HoursLog(Protocol):
    """Keeps counters by hour; the real one is ``KafkaHours``."""

    async def read(self, partition: int) -> dict[bytes, int]:
        """Counters of a partition by name (hour and count key, as the database has them)."""

    async def write(self, partition: int, counters: Mapping[bytes, int | None]) -> bool:
        """Whether the counters are kept; ``None`` takes one away."""


class KafkaHours:
    """Counters by hour in their topic. Implements ``HoursLog`` and ``WorkerService``."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._writer = LogWriter(
            engine, [topics.LEDGER_HOURS], "ledger-hours", ack_ms_max=ACK_MS_MAX
        )

    async def start(self) -> None:
        """Connects. Raises ``TopicsWrong``."""
        await self._writer.start()

    async def stop(self) -> None:
        """Waits for what is on its way and disconnects."""
        await self._writer.stop()

    async def read(self, partition: int) -> dict[bytes, int]:
        """Everything that is known of a partition's hours. Raises ``KafkaError``."""
        place = TopicPartition(topics.LEDGER_HOURS, partition)
        consumer: Any = AIOKafkaConsumer(
            **client_settings(self._engine, "ledger-hours"),
            enable_auto_commit=False,
            # With "latest" the reset that follows assign() may undo the seek, and nothing is read.
            auto_offset_reset="earliest",
        )
        await consumer.start()
        found: dict[bytes, int] = {}
        try:
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
                    for record in records:
                        if record.key is None:
                            continue
                        if record.value is None:
                            found.pop(record.key, None)
                        else:
                            found[record.key] = int.from_bytes(record.value)
        finally:
            await consumer.stop()
        return found

    async def write(self, partition: int, counters: Mapping[bytes, int | None]) -> bool:
        """Writes counters; False when Kafka did not acknowledge all of them."""
        records = [
            OutRecord(topics.LEDGER_HOURS, partition, name, _value(count))
            for name, count in counters.items()
        ]
        written = await self._writer.write(records)
        return all(isinstance(place, Placed) for place in written)


def _value(count: int | None) -> bytes | None:
    return None if count is None else count.to_bytes(8)
