"""The topics of an audit, as far as they go when it first looks at them.

Reads as ``read_committed`` and joins no group. One partition is read at a time, so whoever counts
needs the memory of one partition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

from streams import topics
from streams.ledger.settings import ReconcileSettings

REST = (topics.DECISIONS, topics.OUTCOMES, topics.DEAD_LETTERS)
FETCH_BYTES_MAX = 4 << 20
POLL_S = 0.05
Offsets = dict[TopicPartition, int]


_NO_COORDINATOR_YET = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


class ReconcileError(Exception):
    """The audit cannot be made; the text says why, for people."""


class LogSnapshot:
    """The topics, as far as they go when first looked at."""

    def __init__(self, bootstrap: str, settings: ReconcileSettings) -> None:
        self._clients = {"bootstrap_servers": bootstrap, **settings.security}
        self._settings = settings
        self._consumer: Any = None
        self._uncommitted: Any = None
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
        # Only asked for ends, but kept to the last: aiokafka 0.14 cannot stop one at once.
        self._uncommitted = AIOKafkaConsumer(**self._clients, enable_auto_commit=False)
        await self._uncommitted.start()
        await self._consumer.start()
        admin = AIOKafkaAdminClient(**self._clients)
        await admin.start()
        try:
            self.partitions = await self._find_partitions(admin)
            self.taken = await self._positions_of_decide(admin)
        finally:
            await admin.close()
        self.ends = await self._consumer.end_offsets(self._places(topics.EVENTS))
        self.ends |= await self._consumer.end_offsets(self._places((topics.OUTCOMES,)))
        self.ends |= await self._settled_ends((topics.DECISIONS, topics.DEAD_LETTERS))
        self.starts = await self._consumer.beginning_offsets(list(self.ends))

    async def stop(self) -> None:
        """Disconnects."""
        for consumer in (self._consumer, self._uncommitted):
            if consumer is not None:
                await consumer.stop()

    async def _settled_ends(self, names: Iterable[str]) -> Offsets:
        """Ends of topics that are written in transactions, once everything before is settled.

        A commit is answered before its markers are in every partition: for a moment a delivery
        can be seen, and even answered, whose decision can not. So the end is that of the log, and
        the last stable offset has to reach it.
        """
        places = self._places(names)
        ends: Offsets = await self._uncommitted.end_offsets(places)
        deadline = time.monotonic() + self._settings.stall_ms_max / 1000
        while True:
            stable = await self._consumer.end_offsets(places)
            open_ones = [place for place in places if stable[place] < ends[place]]
            if not open_ones:
                return ends
            if time.monotonic() > deadline:
                first = f"{open_ones[0].topic}/{open_ones[0].partition}"
                raise ReconcileError(f"a transaction on {first} is open and does not end")
            await asyncio.sleep(POLL_S)

    def _places(self, names: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(name, p) for name in names for p in self.partitions]

    async def _find_partitions(self, admin: Any) -> list[int]:
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        counts = {name: len(found.get(name, ())) for name in (*topics.EVENTS, *REST)}
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise ReconcileError(f"there is no topic {', '.join(missing)} on this cluster")
        if len(set(counts.values())) > 1:
            raise ReconcileError(f"the topics have different numbers of partitions: {counts}")
        return list(range(counts[topics.DECISIONS]))

    async def _positions_of_decide(self, admin: Any) -> Offsets:
        group = f"{self._settings.application}-decide"
        deadline = time.monotonic() + self._settings.stall_ms_max / 1000
        while True:
            try:
                found = await admin.list_consumer_group_offsets(group)
            except _NO_COORDINATOR_YET:
                # On a new cluster the first question about any group makes the broker create the
                # topic of offsets.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return {place: position.offset for place, position in found.items()}

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
