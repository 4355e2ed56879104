"""One shared connection to the log, read partition by partition in exactly the order asked for.

aiokafka's ``getmany`` drains whatever was fetched first; lanes starve in it (docs/decisions/0002).
So this wraps an ``AIOKafkaConsumer`` in ``assign`` mode, lets its fetcher do what it is good at
(leaders, retries, decompression, aborted transactions) and takes from the fetcher's buffers by
partition, without waiting. The members of aiokafka that are used beyond its documented API are
all in this file, and ``tests/engine/test_reader.py`` fails when one of them changes.

Invariants: a record is taken once; positions survive a change of the set of partitions; a buffer
that does not start at the position is thrown away, never delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.api import Record
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings

OnDeath = Callable[[BaseException], None]


class TakenRecord(msgspec.Struct, gc=False):
    """A record as it is handed on. aiokafka's own has eleven fields and takes twice as long."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def _taken(tp: TopicPartition, record: Any) -> TakenRecord:
    return TakenRecord(
        tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value,
        tuple(record.headers),
    )  # fmt: skip


class SharedReader:
    """Partitions of many runners on one connection; ``read_committed``, nothing automatic."""

    def __init__(self, name: str, settings: EngineSettings, on_death: OnDeath) -> None:
        self.name = name
        self._settings = settings
        self._on_death = on_death
        self._consumer: Any = None
        self._stopping = False

    async def start(self) -> None:
        """Connects. Nothing is fetched before ``add``."""
        settings = self._settings
        self._consumer = AIOKafkaConsumer(
            **client_settings(settings, self.name),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=settings.fetch_wait_ms,
            max_partition_fetch_bytes=settings.fetch_bytes_max,
        )
        await self._consumer.start()
        # A buffered partition must not keep the others of its node from being fetched.
        self._consumer._fetcher._prefetch_backoff = 0
        self._consumer._fetcher._fetch_task.add_done_callback(self._on_fetch_task_done)

    async def stop(self) -> None:
        """Disconnects."""
        self._stopping = True
        if self._consumer is not None:
            await self._consumer.stop()

    def _on_fetch_task_done(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        error = None if task.cancelled() else task.exception()
        self._on_death(error or RuntimeError(f"the fetch task of reader {self.name} ended"))

    # -- which partitions

    def add(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Adds partitions; ``None`` waits for a ``seek`` before anything is fetched."""
        self._assign({**self._current_positions(), **positions})

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets partitions; the others go on where they were."""
        gone = set(partitions)
        kept = {tp: at for tp, at in self._current_positions().items() if tp not in gone}
        self._assign(kept)

    def assigned(self) -> frozenset[TopicPartition]:
        """Partitions that were added and not removed."""
        assignment = self._assignment()
        return assignment.tps if assignment is not None else frozenset()

    def _assignment(self) -> Any:
        subscription = self._consumer._subscription.subscription
        return None if subscription is None else subscription.assignment

    def _current_positions(self) -> dict[TopicPartition, int | None]:
        assignment = self._assignment()
        if assignment is None:
            return {}
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        return {tp: None if state.paused else state.position for tp, state in states.items()}

    def _assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        # No await in here: the fetcher must never see a partition without a position.
        consumer = self._consumer
        if not positions:
            consumer.unsubscribe()
            return
        consumer.assign(list(positions))
        for tp, position in positions.items():
            consumer.seek(tp, 0 if position is None else position)
            if position is None:
                consumer.pause(tp)

    # -- reading

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Next offset to take; what was buffered is forgotten."""
        self._consumer.seek(tp, offset)
        self._consumer.resume(tp)

    def position(self, tp: TopicPartition) -> int:
        """Offset after everything taken, and after the markers behind it where they are known."""
        return int(self._assignment().state_value(tp).position)

    def stable_end(self, tp: TopicPartition) -> int | None:
        """Last stable offset as the latest fetch saw it; ``None`` before the first."""
        end = self._assignment().state_value(tp).lso
        return None if end is None else int(end)

    def at_hand(self, tp: TopicPartition) -> bool:
        """Whether ``drain`` would find something now."""
        return tp in self._consumer._fetcher._records

    def drain(self, tp: TopicPartition, records_max: int) -> list[Record]:
        """What is already here of one partition, at most ``records_max``. Never waits.

        Raises what the broker said of this partition (offset out of range, not authorised).
        """
        fetcher = self._consumer._fetcher
        buffered = fetcher._records.get(tp)
        if buffered is None:
            return []
        if not hasattr(buffered, "getall"):
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            buffered.check_raise()
            return []
        if (unpacking := buffered._partition_records) is not None:
            unpacking._consumer_record = _taken
        records: list[Record] = buffered.getall(records_max)
        if not buffered.has_more():
            # A fetch may have replaced the buffer only after this one left the table.
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
        return records

    def arrival(self) -> asyncio.Future[None]:
        """Done when something new was fetched for any partition; cancel it when not needed."""
        waiter: asyncio.Future[None] = self._consumer._fetcher._create_fetch_waiter()
        return waiter

    # -- questions to the broker

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Last stable offsets, asked now."""
        offsets = await self._consumer.end_offsets(list(partitions))
        return {tp: int(offset) for tp, offset in offsets.items()}

    async def beginning_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """First offsets that the log still has."""
        offsets = await self._consumer.beginning_offsets(list(partitions))
        return {tp: int(offset) for tp, offset in offsets.items()}


async def wait_for_arrival(readers: Iterable[SharedReader], timeout_s: float) -> bool:
    """Waits until any of the readers fetched something; ``False`` when time ran out."""
    waiters = [reader.arrival() for reader in readers]
    try:
        done, _ = await asyncio.wait(
            waiters, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for waiter in waiters:
            waiter.cancel()
    for waiter in done:
        waiter.result()
    return bool(done)
