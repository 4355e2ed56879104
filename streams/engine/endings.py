"""How transactions of an owner ended, who has heard of it, and telling it again to who has not.

A transaction ends with a marker in each of its partitions, written by Kafka's coordinator after it
has decided. Brokers from 4.0 on forget a marker of a partition that has no leader at that moment
(KAFKA-20734), which is every partition while a whole cluster, or a broker that is alone, starts or
stops: what was written stays without an end, hides everything behind it from readers, and takes the
end of whatever its owner writes there next. So an aborted batch would be committed by the next
one, and a committed one hidden, or aborted with the next.

So an owner asks before each transaction whether all partitions of the one before have heard of its
end, and commits once more over those that have not. And who takes a partition over asks the
coordinator how the latest transaction ended (it knows), fences the owner before, and ends an empty
transaction in the same way wherever the leaders say that something of its producer's is open, until
nothing is. A marker too many does no harm.

Invariants: what was committed is never aborted here, nor the other way round; of one owner never
more than one transaction is unheard of; nothing is read from a changelog before its latest
transaction has its marker.

Not covered: an owner that dies between the fence and the markers, after such a start.

Source: https://cwiki.apache.org/confluence/display/KAFKA/KIP-664 (DescribeTransactions,
DescribeProducers).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    IncompatibleBrokerVersion,
    KafkaError,
    NotLeaderForPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

T = TypeVar("T")
Ending = Literal["committed", "aborted"]
RETRY_S = 0.05
TRANSACTIONAL_ID_NOT_FOUND = 105
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
LATEST = -1
_ENDING = frozenset({"PrepareCommit", "PrepareAbort", "PrepareEpochFence"})
_ENDED: dict[str, Ending] = {
    "CompleteCommit": "committed",
    "CompleteAbort": "aborted",
    # The fence that follows ends it so.
    "Ongoing": "aborted",
}


_PARTITIONS = CompactArray(
    ("topic", CompactString("utf-8")),
    ("partitions", CompactArray(Int32)),
    ("tags", TaggedFields),
)
"""Partitions by topic, as both requests have them."""


class _Response(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", _PARTITIONS),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _RequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields)
    )


class DescribeTransactions(Request[_RequestStruct]):  # type: ignore[misc]
    """Asks a coordinator for the state of one transactional id."""

    API_KEY: ClassVar[int] = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[_RequestStruct]) -> _RequestStruct:
        """See aiokafka's ``Request``."""
        return request_struct_class([self._transactional_id], {})


class _ProducersResponse(Response):  # type: ignore[misc]
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ProducersRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = _ProducersResponse
    SCHEMA = Schema(("topics", _PARTITIONS), ("tags", TaggedFields))


class DescribeProducers(Request[_ProducersRequestStruct]):  # type: ignore[misc]
    """Asks a leader who writes to its partitions, and who has a transaction open there."""

    API_KEY: ClassVar[int] = 61

    def __init__(self, topics: Mapping[str, Sequence[int]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_ProducersRequestStruct]) -> _ProducersRequestStruct:
        """See aiokafka's ``Request``."""
        topics: list[Any] = [(name, list(numbers), {}) for name, numbers in self._topics.items()]
        return request_struct_class(topics, {})


class Endings:
    """Asks coordinators and leaders, over a client that somebody else opens and closes."""

    def __init__(self, client: Any, patience_ms: int) -> None:
        """``patience_ms``: how long it asks again while nobody can say. 0: asks once."""
        self._client = client
        self._patience_ms = patience_ms

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: EngineSettings, purpose: str) -> AsyncIterator[Self]:
        """With a client of its own, for as long as there are questions."""
        client: Any = AIOKafkaClient(**client_settings(settings, purpose))
        try:
            await client.bootstrap()
            yield cls(client, settings.start_ms_max)
        finally:
            await client.close()

    async def latest(self, transactional_id: str) -> Ending | None:
        """How the latest transaction ended, once its markers are said to be written.

        ``None``: there was none, or its producer has been fenced since. Raises ``KafkaError`` when
        nobody can say in time.
        """
        try:
            state = await self._patiently(self._ended, transactional_id)
        except IncompatibleBrokerVersion:
            log.warning("the brokers are older than Kafka 3.0: nobody says how transactions ended")
            return None
        return _ENDED.get(state)

    async def hanging(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Partitions of these topics where something has no end yet and hides what is behind it.

        That may as well be a transaction that is under way. Raises as ``latest``.
        """
        names = sorted(topics)
        await self._patiently(self._client.set_topics, names)
        cluster = self._client.cluster
        places = [
            TopicPartition(n, p) for n in names for p in cluster.partitions_for_topic(n) or ()
        ]
        stable = await self.stable_ends(places)
        ends = await self._patiently(self._ends, places, READ_UNCOMMITTED)
        return sorted(place for place, end in ends.items() if stable[place] < end)

    async def open_of(
        self, producer_id: int, places: Iterable[TopicPartition]
    ) -> list[TopicPartition]:
        """Those of these partitions where this producer has a transaction without an end.

        Raises as ``latest``.
        """
        try:
            return sorted(await self._patiently(self._open_of, producer_id, list(places)))
        except IncompatibleBrokerVersion:
            return []  # Older than Kafka 2.8: it forgets no end.

    async def stable_ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset before which everything has its end. Raises as ``latest``."""
        return await self._patiently(self._ends, list(places), READ_COMMITTED)

    async def _patiently(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """The answer, as soon as there is one: right after its start a cluster has none."""
        deadline = time.monotonic() + self._patience_ms / 1000
        while True:
            try:
                return await ask(*arguments)
            except KafkaError as error:
                again = error.retriable or isinstance(error, ConcurrentTransactions)
                if time.monotonic() > deadline or not again:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _ended(self, transactional_id: str) -> str:
        client = self._client
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        request = DescribeTransactions(transactional_id)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        ((error_code, _, state, *_),) = answer.states
        if error_code == TRANSACTIONAL_ID_NOT_FOUND:
            return "Empty"
        if error_code:
            raise for_code(error_code)
        if state in _ENDING:
            raise ConcurrentTransactions
        return str(state)

    async def _ends(
        self, places: Sequence[TopicPartition], isolation: int
    ) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        for node, topics in (await self._by_leader(places)).items():
            wanted = [(name, [(n, LATEST) for n in numbers]) for name, numbers in topics.items()]
            answer = await self._client.send(node, OffsetRequest(-1, isolation, wanted))
            for topic, partitions in answer.topics:
                for number, error_code, _, offset in partitions:
                    await self._check(error_code)
                    found[TopicPartition(topic, number)] = offset
        return found

    async def _open_of(
        self, producer_id: int, places: Sequence[TopicPartition]
    ) -> list[TopicPartition]:
        found: list[TopicPartition] = []
        for node, topics in (await self._by_leader(places)).items():
            answer = await self._client.send(node, DescribeProducers(topics))
            for topic, partitions, _ in answer.topics:
                for number, error_code, _, producers, _ in partitions:
                    await self._check(error_code)
                    if any(one[0] == producer_id and one[5] >= 0 for one in producers):
                        found.append(TopicPartition(topic, number))
        return found

    async def _by_leader(self, places: Iterable[TopicPartition]) -> dict[int, dict[str, list[int]]]:
        """Leader -> topic -> partitions. Raises ``NotLeaderForPartitionError`` without one."""
        client = self._client
        wanted: dict[int, dict[str, list[int]]] = {}
        for place in places:
            leader = client.cluster.leader_for_partition(place)
            if leader is None or leader < 0:
                await client.force_metadata_update()
                raise NotLeaderForPartitionError
            wanted.setdefault(leader, {}).setdefault(place.topic, []).append(place.partition)
        return wanted

    async def _check(self, error_code: int) -> None:
        if error_code:
            await self._client.force_metadata_update()
            raise for_code(error_code)
