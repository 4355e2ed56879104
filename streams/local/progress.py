"""How far everything is: what was published, and what each role has finished.

Read from Kafka alone: the topics' last stable offsets and the groups' committed positions. So it
is true of any worker anywhere, and looking costs the workers nothing.

Invariant: ``at_rest`` is said only of positions that were read *before* the ends they are
compared with, so work that arrives meanwhile is seen as work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics

ANSWER_MS_MAX = 10_000
READS: dict[str, tuple[str, ...]] = {
    "decide": (*topics.CONTROL, *topics.EVENTS),
    "deliver": topics.DELIVERIES,
    "ledger": (topics.DECISIONS, topics.OUTCOMES, topics.RECEIPTS),
}
"""Role -> the topics that it reads to their ends."""

Place = tuple[str, int]
"""(topic, partition)."""


class Progress(msgspec.Struct, frozen=True):
    """One look: positions of each role and the ends, by (topic, partition)."""

    ends: dict[Place, int]
    done: dict[str, dict[Place, int]]

    def end(self, names: Iterable[str]) -> int:
        """Records in these topics (in transactional ones, with their markers)."""
        wanted = frozenset(names)
        return sum(end for (topic, _), end in self.ends.items() if topic in wanted)

    def finished(self, role: str, names: Iterable[str]) -> int:
        """Records of these topics that a role has finished."""
        wanted = frozenset(names)
        return sum(at for (topic, _), at in self.done[role].items() if topic in wanted)

    def lag(self, role: str) -> int:
        """Records (and markers) that a role has still to read."""
        done = self.done[role]
        return sum(
            max(0, end - done.get(place, 0))
            for place, end in self.ends.items()
            if place[0] in READS[role]
        )

    def at_rest(self) -> bool:
        """Whether no role has anything left to read."""
        return all(self.lag(role) == 0 for role in READS)


class ProgressReader:
    """Asks a cluster how far everything is, over two connections of its own; use ``async with``."""

    def __init__(
        self, client: Mapping[str, Any], partitions: int, application: str = "flowstate"
    ) -> None:
        """``client``: servers and security, as every aiokafka client takes them."""
        self._application = application
        self._admin = AIOKafkaAdminClient(**client, request_timeout_ms=ANSWER_MS_MAX)
        self._consumer = AIOKafkaConsumer(
            **client,
            enable_auto_commit=False,
            isolation_level="read_committed",
            request_timeout_ms=ANSWER_MS_MAX,
        )
        self._places = [
            TopicPartition(topic, partition)
            for topic in sorted({topic for read in READS.values() for topic in read})
            for partition in range(partitions)
        ]

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        # aiokafka cannot stop a task that has not begun: it would say that we were cancelled.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def read(self) -> Progress:
        """Positions first, then ends. Raises aiokafka's errors when the cluster is away."""
        done = {role: await self._committed(f"{self._application}-{role}") for role in READS}
        ends = await self._consumer.end_offsets(self._places)
        return Progress({(tp.topic, tp.partition): end for tp, end in ends.items()}, done)

    async def _committed(self, group: str) -> dict[Place, int]:
        positions = await self._admin.list_consumer_group_offsets(group)
        return {(tp.topic, tp.partition): max(0, at.offset) for tp, at in positions.items()}
