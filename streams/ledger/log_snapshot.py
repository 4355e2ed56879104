"""The topics of an audit, as far as they go when it first looks at them.

Reads as ``read_committed`` and joins no group. One partition is read at a time, so whoever counts
needs the memory of one partition.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics
from streams.ledger.settings import ReconcileSettings

REST = (topics.DECISIONS, topics.OUTCOMES, topics.DEAD_LETTERS)
FETCH_BYTES_MAX = 4 << 20
Offsets = dict[TopicPartition, int]


class ReconcileError(Exception):
    """The audit cannot be made; the text says why, for people."""


class LogSnapshot:
    """The topics, as far as they go when first looked at."""

    def __init__(self, bootstrap: str, settings: ReconcileSettings) -> None:
        self._clients = {"bootstrap_servers": bootstrap, **settings.security}
        self._settings = settings
        self._consumer: Any = None
        self.partitions: list[int] = []
        self.taken: Offsets = {}
        self.ends: Offsets = {}
        self.starts: Offsets = {}

    async def start(self) -> None:
        """Connects and takes the snapshot, in the order that the module's text explains."""
        self._consumer = AIOKafkaConsumer(
            **self._clients,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()
        self.partitions = await self._find_partitions()
        self.taken = await self._positions_of_decide()
        self.ends = await self._consumer.end_offsets(self._places(topics.EVENTS))
        self.ends |= await self._consumer.end_offsets(self._places(REST))
        self.starts = await self._consumer.beginning_offsets(list(self.ends))

    async def stop(self) -> None:
        """Disconnects."""
        if self._consumer is not None:
            await self._consumer.stop()

    def _places(self, names: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(name, p) for name in names for p in self.partitions]

    async def _find_partitions(self) -> list[int]:
        known = await self._consumer.topics()
        missing = [name for name in (*topics.EVENTS, *REST) if name not in known]
        if missing:
            raise ReconcileError(f"there is no topic {', '.join(missing)} on this cluster")
        return sorted(self._consumer.partitions_for_topic(topics.DECISIONS) or ())

    async def _positions_of_decide(self) -> Offsets:
        admin = AIOKafkaAdminClient(**self._clients)
        await admin.start()
        try:
            group = f"{self._settings.application}-decide"
            found = await admin.list_consumer_group_offsets(group)
            return {place: position.offset for place, position in found.items()}
        finally:
            await admin.close()

    async def read(self, partition: int, names: Sequence[str]) -> AsyncIterator[list[Any]]:
        """Batches of records of one partition of some topics, each topic in its order."""
        places = [TopicPartition(name, partition) for name in names]
        places = [place for place in places if self.starts[place] < self.ends[place]]
        if not places:
            return
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, self.starts[place])
        waiting, stall_s = set(places), self._settings.stall_ms_max / 1000
        deadline = time.monotonic() + stall_s
        while waiting:
            batches = await self._consumer.getmany(
                timeout_ms=200, max_records=self._settings.records_max
            )
            for place, records in batches.items():
                if place in waiting:
                    yield [record for record in records if record.offset < self.ends[place]]
            for place in list(waiting):
                if await self._consumer.position(place) >= self.ends[place]:
                    waiting.discard(place)
                    self._consumer.pause(place)
            if batches:
                deadline = time.monotonic() + stall_s
            elif time.monotonic() > deadline:
                names_left = ", ".join(f"{place.topic}/{place.partition}" for place in waiting)
                raise ReconcileError(f"nothing arrives any more from {names_left}")
