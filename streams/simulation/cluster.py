"""Clients of the simulated cluster: stand-ins for aiokafka's, as the product uses them.

Each request takes a while, may find the cluster away, and is a moment at which the process that
makes it can be killed: before it leaves, or after it took effect and before its answer came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaTimeoutError, ProducerFenced

from streams.engine.endings import Ending
from streams.simulation.chaos import Chaos
from streams.simulation.log import Log, ProducerState, Stored, Transaction
from streams.simulation.loop import SimLoop, sleep_us

FETCH_RECORDS_MAX = 40
STARTS_US = 2_000_000
"""For so long after an outage partitions may have no leader."""
TIMEOUT_US = 30_000_000
"""A request that is not answered for so long has failed, whatever it did."""


class Cluster:
    """The log with the network before it."""

    def __init__(self, loop: SimLoop, log: Log, chaos: Chaos) -> None:
        self.loop = loop
        self.log = log
        self.chaos = chaos

    async def request(self, what: str) -> None:
        """On the way there. Raises ``KafkaTimeoutError`` when the cluster is away for too long."""
        await self.chaos.step(what)
        began_us = self.loop.now_us
        await sleep_us(self.loop, self.chaos.latency_us())
        while self.loop.now_us < self.log.away_until_us:
            if self.log.away_until_us - began_us > TIMEOUT_US:
                await sleep_us(self.loop, began_us + TIMEOUT_US - self.loop.now_us)
                raise KafkaTimeoutError(f"{what}: the cluster is away")
            await sleep_us(self.loop, self.log.away_until_us - self.loop.now_us + 1)

    async def answer(self, what: str) -> None:
        """On the way back: what was asked for has been done."""
        await self.chaos.step(f"{what} answered")

    @property
    def just_started(self) -> bool:
        """Whether it was away a moment ago."""
        return 0 < self.log.away_until_us <= self.loop.now_us < self.log.away_until_us + STARTS_US

    def later(self, at_us: int, work: Any, *arguments: Any) -> None:
        """The cluster does something by itself, whatever becomes of whoever asked for it."""
        self.chaos.outside.run(self.loop.call_at, at_us / 1e6, work, *arguments)

    def spread_markers(self, transaction: Transaction) -> None:
        """The end of a transaction reaches its partitions, each at a moment of its own.

        Or some never: a cluster that starts or stops forgets those that have no leader.
        """
        for place in sorted(transaction.unmarked):
            if self.just_started and self.chaos.forgets_marker():
                transaction.unmarked.discard(place)
                continue
            at_us = self.loop.now_us + self.chaos.marker_us()
            self.later(at_us, self._mark, transaction, place)

    def _mark(self, transaction: Transaction, place: tuple[str, int]) -> None:
        if self.loop.now_us >= self.log.away_until_us:
            self.log.mark(transaction, place)
        elif self.chaos.forgets_marker():
            transaction.unmarked.discard(place)
        else:
            self.later(self.log.away_until_us, self._mark, transaction, place)


class Metadata(msgspec.Struct):
    """What a producer is told of an append."""

    offset: int


SimRow = tuple[bytes | None, bytes | None, int | None, Any]


class SimBuilder:
    """What aiokafka's batches put their records into."""

    def __init__(self, records: list[SimRow]) -> None:
        self._records = records

    def append(
        self,
        offset: int,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Any,
    ) -> object:
        self._records.append((key, value, timestamp, tuple(headers)))
        return self


class SimBatch:
    """Records on their way into one partition."""

    def __init__(self) -> None:
        self.records: list[SimRow] = []
        self._builder = SimBuilder(self.records)
        self._relative_offset = 0

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: int | None, headers: Any = ()
    ) -> object:
        self.records.append((key, value, timestamp, tuple(headers or ())))
        return self

    def close(self) -> None:
        """Nothing to do."""

    def record_count(self) -> int:
        return len(self.records)


class SimProducer:
    """Stands in for ``AIOKafkaProducer``: idempotent, transactional when it has an id."""

    def __init__(self, cluster: Cluster, **arguments: Any) -> None:
        self._cluster = cluster
        self._id: str | None = arguments.get("transactional_id")
        self._state = ProducerState()
        self._epoch = 0
        self._transaction: Transaction | None = None
        self._txn_manager = self
        self.producer_id = self._id
        self.client = None
        self._without_records: list[tuple[str, int]] = []
        self._pending: list[asyncio.Future[Metadata]] = []
        self._last_us: dict[tuple[str, int], int] = {}

    async def start(self) -> None:
        await self._cluster.request("init producer")
        if self._id is None:
            return
        log = self._cluster.log
        before = log.producers.get(self._id)
        aborted = before is not None and before.transaction is not None
        self._epoch = log.fence(self._id)
        self._state = log.producers[self._id]
        transaction = self._state.transaction
        if aborted and transaction is not None and transaction.state == "aborted":
            self._cluster.spread_markers(transaction)
        await self._settled()
        await self._cluster.answer("init producer")

    async def stop(self) -> None:
        """An open transaction stays open."""

    async def _settled(self) -> None:
        """Until the markers of the transaction before are everywhere."""
        while self._state.transaction is not None and self._state.transaction.unmarked:
            await sleep_us(self._cluster.loop, 500)

    def create_batch(self) -> SimBatch:
        return SimBatch()

    async def begin_transaction(self) -> None:
        await self._settled()
        self._transaction = None
        self._without_records = []
        self._pending = []

    def maybe_add_partition_to_txn(self, place: TopicPartition) -> None:
        """As in aiokafka's transaction manager: the partition gets the marker, records or not."""
        self._without_records.append((place.topic, place.partition))

    async def send_batch(
        self, batch: SimBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Metadata]:
        """Sends; the future is done when the cluster has acknowledged."""
        cluster, place = self._cluster, (topic, partition)
        await cluster.chaos.step(f"send to {topic}/{partition}")
        future: asyncio.Future[Metadata] = cluster.loop.create_future()
        now_us = cluster.loop.now_us
        at_us = max(now_us + cluster.chaos.latency_us(), cluster.log.away_until_us)
        at_us = max(at_us, self._last_us.get(place, 0) + 1)
        self._last_us[place] = at_us
        if at_us - now_us <= TIMEOUT_US:
            cluster.later(at_us, self._arrive, batch, place, future)
        else:
            error = KafkaTimeoutError("the batch was not acknowledged")
            cluster.later(now_us + TIMEOUT_US, _fail, future, error)
            if cluster.chaos.coin():  # It arrives all the same; nobody hears of it.
                cluster.later(at_us, self._arrive, batch, place, cluster.loop.create_future())
        return self._track(future)

    def _track(self, future: asyncio.Future[Metadata]) -> asyncio.Future[Metadata]:
        if self._id is not None:
            self._pending.append(future)
        return future

    def _arrive(
        self, batch: SimBatch, place: tuple[str, int], future: asyncio.Future[Metadata]
    ) -> None:
        log, state = self._cluster.log, self._state
        if self._id is not None:
            if state.epoch != self._epoch:
                return _fail(future, InvalidProducerEpoch())
            if self._transaction is None:
                self._transaction = log.begin(state)
            elif self._transaction.state != "open":
                return _fail(future, InvalidProducerEpoch())
        first = -1
        for key, value, timestamp, headers in batch.records:
            offset = log.append(
                *place, key, value, timestamp_ms=timestamp, headers=headers,
                transaction=self._transaction,
            )  # fmt: skip
            first = offset if first < 0 else first
        back_us = self._cluster.loop.now_us + self._cluster.chaos.latency_us()
        self._cluster.later(back_us, _resolve, future, Metadata(first))
        return None

    async def commit_transaction(self) -> None:
        await self._end("committed")

    async def abort_transaction(self) -> None:
        await self._end("aborted")

    async def _end(self, outcome: str) -> None:
        cluster = self._cluster
        await asyncio.gather(*self._pending)
        await cluster.request(outcome)
        if self._state.epoch != self._epoch:
            raise ProducerFenced
        if self._without_records:
            self._transaction = cluster.log.begin(self._state)
            self._transaction.partitions = dict.fromkeys(self._without_records, -1)
        transaction = self._transaction
        if transaction is not None:
            if transaction.state != "open":
                raise ProducerFenced
            cluster.log.end(self._state, outcome)
            cluster.spread_markers(transaction)
        await cluster.answer(outcome)


def _resolve(future: asyncio.Future[Metadata], metadata: Metadata) -> None:
    if not future.done():
        future.set_result(metadata)


def _fail(future: asyncio.Future[Metadata], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # Whoever waited for it may be dead.


class SimEndings:
    """Stands in for ``engine.endings.Endings``: what the coordinator knows."""

    def __init__(self, cluster: Cluster, *_: Any) -> None:
        self._cluster = cluster

    async def stable_ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._cluster.request("stable ends")
        return {place: self._cluster.log[place].stable_end for place in places}

    async def latest(self, transactional_id: str) -> Ending | None:
        await self._cluster.request("how it ended")
        state = self._cluster.log.producers.get(transactional_id)
        if state is None or state.transaction is None:
            return None
        transaction = state.transaction
        while transaction.unmarked:
            await sleep_us(self._cluster.loop, 500)
        return "committed" if transaction.state == "committed" else "aborted"

    async def open_of(
        self, producer_id: str, places: Iterable[TopicPartition]
    ) -> list[TopicPartition]:
        await self._cluster.request("open transactions")
        log = self._cluster.log
        owner = log.producers[producer_id]
        return [one for one in places if any(its.owner is owner for its in log[one].open)]

    async def hanging(self, topics: Iterable[str]) -> list[TopicPartition]:
        await self._cluster.request("what hangs")
        return [
            TopicPartition(topic, place.number)
            for topic in topics
            for place in self._cluster.log.topics[topic]
            if place.stable_end < place.end
        ]


class SimEndingsOf:
    """Stands in for the class of the same."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(self, *_: Any) -> SimEndings:
        return SimEndings(self._cluster)

    @contextlib.asynccontextmanager
    async def opened(self, *_: Any) -> AsyncIterator[SimEndings]:
        yield SimEndings(self._cluster)


class SimConsumer:
    """Stands in for ``AIOKafkaConsumer`` where a tail is read (``deliver_log``)."""

    def __init__(self, cluster: Cluster, **_: Any) -> None:
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        await self._cluster.request("consumer")

    async def stop(self) -> None:
        """Nothing to do."""

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._cluster.request("end offsets")
        return {tp: self._cluster.log[tp].stable_end for tp in places}

    async def beginning_offsets(
        self, places: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        await self._cluster.request("beginning offsets")
        return {tp: self._cluster.log[tp].start for tp in places}

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(places, 0)

    def unsubscribe(self) -> None:
        self._positions = {}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._positions[place] = offset

    async def position(self, place: TopicPartition) -> int:
        return self._positions[place]

    async def getmany(
        self, place: TopicPartition, timeout_ms: int
    ) -> Mapping[TopicPartition, list[Stored]]:
        await self._cluster.request("fetch")
        records, after = self._cluster.log[place].read(self._positions[place], FETCH_RECORDS_MAX)
        self._positions[place] = after
        return {place: records} if records else {}


class SimAdmin:
    """Stands in for ``AIOKafkaAdminClient`` where topics are looked up."""

    def __init__(self, cluster: Cluster, **_: Any) -> None:
        self._cluster = cluster

    async def start(self) -> None:
        await self._cluster.request("admin")

    async def close(self) -> None:
        """Nothing to do."""

    async def describe_topics(self) -> list[dict[str, Any]]:
        await self._cluster.request("describe")
        return [
            {"topic": name, "partitions": [{"partition": one.number} for one in partitions]}
            for name, partitions in self._cluster.log.topics.items()
        ]
