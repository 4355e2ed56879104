"""What a runner is given: its partition of the shared readers, its commits, its clock.

``WorkerParts`` is made once per worker; ``Context`` once per runner, and thrown away with it. A
context reads each topic from the connection of its lane, so that an urgent lane never waits behind
a backlog.

Invariant: a context touches no partition but its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from streams.engine.api import Record
from streams.engine.clients import client_settings
from streams.engine.clock import WallClock
from streams.engine.crash_points import CrashPoints
from streams.engine.metrics import Metrics
from streams.engine.offsets import Membership, OffsetCommitter
from streams.engine.reader import SharedReader, wait_for_arrival
from streams.engine.roles import Committed, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.snapshots import EndOffsets
from streams.engine.steps import RunStep, run_directly
from streams.engine.store import SharedMemory


class WorkerParts:
    """What all runners of a worker share."""

    def __init__(
        self,
        role: RoleSpec,
        settings: EngineSettings,
        membership: Membership,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self.role = role
        self._on_death = on_death
        self.settings = settings
        self.membership = membership
        self.crash_points = CrashPoints()
        self.metrics = Metrics(role.name)
        self.urgent = SharedReader(f"{role.name}-urgent", settings, on_death)
        self.ordinary = SharedReader(f"{role.name}-ordinary", settings, on_death)
        self.changelog = SharedReader(f"{role.name}-changelog", settings, on_death)
        self._asker = SharedReader(f"{role.name}-ends", settings, on_death)
        self.ends = EndOffsets(self._asker)
        self.step: RunStep = run_directly
        # In stream time the records' own times count, and nothing hangs on this machine's.
        error_ms_max = settings.clock_error_ms_max if settings.clock == "wall" else 0
        self.clock = WallClock(error_ms_max, on_death)
        self.offsets = OffsetCommitter(membership, settings.offsets_commit_ms)
        self.memory = SharedMemory(settings.block_cache_bytes, settings.write_buffer_bytes)
        self.reader_of = {
            topic: self.urgent if lane.urgent else self.ordinary
            for lane in role.lanes
            for topic in lane.topics
        }

    @property
    def readers(self) -> tuple[SharedReader, ...]:
        """Every connection that is used."""
        lanes = {id(reader): reader for reader in self.reader_of.values()}
        with_table = (self.changelog,) if self.role.table is not None else ()
        return (*lanes.values(), *with_table, self._asker)

    async def start(self) -> None:
        """Connects."""
        for reader in self.readers:
            await reader.start()
        self.offsets.start(self._on_death)

    async def stop(self) -> None:
        """Disconnects."""
        await self.offsets.stop()
        await self.ends.stop()
        for reader in self.readers:
            await reader.stop()

    def assign(self, partitions: Sequence[int]) -> None:
        """The lanes now have these partitions; each waits for a seek."""
        for reader in {id(r): r for r in self.reader_of.values()}.values():
            reader.remove(reader.assigned())
            topics = [topic for topic, its in self.reader_of.items() if its is reader]
            reader.add({TopicPartition(t, p): None for t in topics for p in partitions})


class Context:
    """One runner's view. Implements ``PartitionContext``."""

    def __init__(self, partition: int, worker: WorkerParts) -> None:
        self.partition = partition
        self.worker = worker
        self.settings = worker.settings
        self.metrics = worker.metrics.of_partition(partition)
        self.progressed_at = time.monotonic()
        self._sought: set[str] = set()
        self._tps = {topic: TopicPartition(topic, partition) for topic in worker.reader_of}

    # -- PartitionContext

    def now_ms(self) -> int:
        """Wall clock, Unix milliseconds. Raises ``ClockWrong`` after a jump."""
        return self.worker.clock.now_ms()

    async def take(self, topics: Sequence[str], records_max: int, timeout_ms: int) -> list[Record]:
        """See ``PartitionContext.take``."""
        await self._begin_where_committed(topics)
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            records = self.drain(topics, records_max)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            await self.wait(topics, left)

    def seek(self, positions: Mapping[str, int]) -> None:
        """See ``PartitionContext.seek``."""
        for topic, offset in positions.items():
            self.worker.reader_of[topic].seek(self.tp(topic), offset)
            self._sought.add(topic)

    def position(self, topic: str) -> int:
        """See ``PartitionContext.position``."""
        return self.worker.reader_of[topic].position(self.tp(topic))

    async def end_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        """See ``PartitionContext.end_offsets``."""
        offsets = await self.worker.ends.get([self.tp(topic) for topic in topics])
        return {tp.topic: offset for tp, offset in offsets.items()}

    async def beginning_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        """See ``PartitionContext.beginning_offsets``."""
        reader = self.worker.ends.reader
        offsets = await reader.beginning_offsets([self.tp(topic) for topic in topics])
        return {tp.topic: offset for tp, offset in offsets.items()}

    async def committed(self) -> dict[str, Committed]:
        """See ``PartitionContext.committed``."""
        partitions = [self.tp(topic) for topic in self.worker.role.topics]
        positions = await self.worker.membership.committed(partitions)
        return {tp.topic: position for tp, position in positions.items()}

    async def commit(self, positions: Mapping[str, Committed]) -> None:
        """See ``PartitionContext.commit``."""
        self.crash_point("before_offset_commit")
        await self.worker.membership.commit_positions(
            {self.tp(topic): position for topic, position in positions.items()}
        )

    def client_settings(self) -> dict[str, Any]:
        """See ``PartitionContext.client_settings``."""
        return client_settings(self.settings, f"{self.worker.role.name}-{self.partition}")

    def crash_point(self, name: str) -> None:
        """See ``PartitionContext.crash_point``."""
        self.worker.crash_points.pass_through(name)

    def progress(self) -> None:
        """See ``PartitionContext.progress``."""
        self.progressed_at = time.monotonic()

    # -- for the engine

    def tp(self, topic: str) -> TopicPartition:
        """This runner's partition of a topic."""
        return self._tps[topic]

    def drain(self, topics: Sequence[str], records_max: int) -> list[Record]:
        """What is already here, topics in the order given."""
        records: list[Record] = []
        reader_of = self.worker.reader_of
        for topic in topics:
            left = records_max - len(records)
            if left <= 0:
                break
            records += reader_of[topic].drain(self.tp(topic), left)
        return records

    def at_hand(self, topics: Sequence[str]) -> bool:
        """Whether something of these topics was fetched and not taken."""
        return any(self.worker.reader_of[topic].at_hand(self.tp(topic)) for topic in topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """Waits until something was fetched on a connection of these topics."""
        readers = {id(r): r for r in map(self.worker.reader_of.__getitem__, topics)}
        return await wait_for_arrival(readers.values(), timeout_s)

    def lag(self, topics: Sequence[str]) -> int:
        """Records between the positions and the ends that the latest fetches saw."""
        lag = 0
        for topic in topics:
            if topic in self._sought:
                reader, tp = self.worker.reader_of[topic], self.tp(topic)
                lag += max(0, (reader.stable_end(tp) or 0) - reader.position(tp))
        return lag

    async def _begin_where_committed(self, topics: Sequence[str]) -> None:
        new = [topic for topic in topics if topic not in self._sought]
        if not new:
            return
        committed = await self.committed()
        beginnings = await self.beginning_offsets(new)
        self.seek({t: committed[t].offset if t in committed else beginnings[t] for t in new})
