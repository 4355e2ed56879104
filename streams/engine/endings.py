"""How the latest transaction of an owner ended, and telling it again to whom it did not reach.

A transaction ends with a marker in each of its partitions, written by Kafka's coordinator after it
has decided. Brokers from 4.0 on forget a marker of a partition that has no leader at that moment
(KAFKA-20734), which is every partition while a whole cluster starts: what was written stays without
an end, hides everything behind it from readers, and takes the end of whatever its owner writes
there next. So an aborted batch would be committed by the next one, or a committed one be hidden.

So before an owner takes a partition over it asks the coordinator how the latest transaction ended
(it knows), fences it, and ends an empty transaction in the same way, over the partitions that it
writes to and all others where something hangs. A marker too many does no harm.

Invariants: what was committed is never aborted here, nor the other way round; nothing is read from
a changelog before its latest transaction has its marker.

Not covered: an owner that dies again between the fence and the markers; and one that lives through
such a start: what it had just committed is seen with what it writes there next.

Source: https://cwiki.apache.org/confluence/display/KAFKA/KIP-664 (DescribeTransactions).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

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
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
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


class Endings:
    """Asks the coordinators; open it for as long as there are questions."""

    def __init__(self, settings: EngineSettings, purpose: str) -> None:
        self._settings = settings
        self._client: Any = AIOKafkaClient(**client_settings(settings, purpose))

    async def __aenter__(self) -> Endings:
        await self._client.bootstrap()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def latest(self, transactional_id: str) -> Ending | None:
        """How the latest transaction ended, once its markers are said to be written.

        ``None``: there was none, or its producer has been fenced since. Raises ``KafkaError`` when
        nobody can say within ``start_ms_max``.
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
        stable = await self._patiently(self._ends, names, READ_COMMITTED)
        ends = await self._patiently(self._ends, names, READ_UNCOMMITTED)
        return sorted(place for place, end in ends.items() if stable.get(place, end) < end)

    async def _patiently(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """The answer, as soon as there is one: right after its start a cluster has none."""
        deadline = time.monotonic() + self._settings.start_ms_max / 1000
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

    async def _ends(self, topics: Sequence[str], isolation: int) -> dict[TopicPartition, int]:
        client = self._client
        await client.set_topics(topics)
        wanted: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for topic in topics:
            for number in client.cluster.partitions_for_topic(topic) or ():
                leader = client.cluster.leader_for_partition(TopicPartition(topic, number))
                if leader is None or leader < 0:
                    await client.force_metadata_update()
                    raise NotLeaderForPartitionError
                wanted.setdefault(leader, {}).setdefault(topic, []).append((number, LATEST))
        found: dict[TopicPartition, int] = {}
        for node, of_topic in wanted.items():
            answer = await client.send(node, OffsetRequest(-1, isolation, list(of_topic.items())))
            for topic, partitions in answer.topics:
                for number, error_code, _, offset in partitions:
                    if error_code:
                        await client.force_metadata_update()
                        raise for_code(error_code)
                    found[TopicPartition(topic, number)] = offset
        return found
