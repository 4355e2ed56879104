"""The client over Kafka, for producers that speak it: no API in between, no answer but the log's.

It does what a stock producer must be told to do: the key is the recipient, the partition Java's
murmur2 of it, the value Avro, the producer idempotent with ``acks=all``. The lane is that of the
category, so the categories' priorities are handed in (they are in ``flowstate.toml``). What Kafka
has acknowledged is accepted; whether the catalogue likes it is decided later.

Preferences can be replaced here, and not read: the log has no answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from streams import topics
from streams.api.event_check import LANES, RANK
from streams.client.errors import Refused, Unavailable
from streams.client.types import Accepted, Answer, Event, NotAccepted
from streams.codec import Codec, EncodeError
from streams.core.model import Priority, struct_to_dict
from streams.partitioning import partition_for
from streams.web.preference_rules import to_model
from streams.web.state_documents import PreferencesDocument

UNKNOWN_CATEGORY: Priority = "normal"


class KafkaClient:
    """Use as ``async with``. ``connection`` is given to aiokafka's producer as it is."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        priorities: Mapping[str, Priority],
        *,
        attempts_max: int = 5,
        ack_s_max: float = 10.0,
        compression: str | None = "lz4",
    ) -> None:
        self._connection = dict(connection)
        self._priorities = dict(priorities)
        self._attempts_max = attempts_max
        self._ack_s_max = ack_s_max
        self._compression = compression
        self._codec = Codec()
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        """Connects. Raises ``Unavailable`` when Kafka does not answer, after all tries."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(self._attempts_max),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )
        await retrying(self._connect)
        return self

    async def _connect(self) -> None:
        producer = AIOKafkaProducer(
            **self._connection,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            compression_type=self._compression,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.client.close()
            producer._closed = True
            raise Unavailable(f"Kafka does not answer: {error}") from error
        self._producer = producer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._producer is not None:
            await asyncio.wait(
                {asyncio.create_task(self._producer.stop())}, timeout=self._ack_s_max
            )

    async def send(self, events: Sequence[Event]) -> list[Answer]:
        """What became of each event, in order."""
        answers: list[Answer | None] = [None] * len(events)
        sent: dict[int, asyncio.Future[Any]] = {}
        try:
            async with asyncio.timeout(self._ack_s_max):
                for place, event in enumerate(events):
                    try:
                        value = self._codec.encode("event", msgspec.structs.asdict(event))
                    except EncodeError as error:
                        answers[place] = NotAccepted(event.event_id, "invalid", str(error))
                        continue
                    sent[place] = await self._write(self._lane(event), event.recipient_id, value)
                for place, future in sent.items():
                    await future
                    answers[place] = Accepted(events[place].event_id)
        except (KafkaError, TimeoutError):
            pass  # Whatever has no answer yet was not acknowledged.
        return [
            answer or NotAccepted(event.event_id, "unavailable", "not acknowledged", retry=True)
            for event, answer in zip(events, answers, strict=True)
        ]

    async def cancel(self, recipient_id: str, event_id: str, requested_at_ms: int) -> None:
        """Asks for an event to be withdrawn. Raises ``Unavailable``."""
        mapping = {
            "recipient_id": recipient_id,
            "event_id": event_id,
            "requested_at_ms": requested_at_ms,
        }
        value = self._codec.encode("cancellation", mapping)
        await self._acknowledged(topics.CANCELLATIONS, recipient_id, value)

    async def replace_preferences(
        self, recipient_id: str, preferences: PreferencesDocument, updated_at_ms: int
    ) -> None:
        """Replaces a recipient's preferences, whatever they were. Raises ``ClientError``."""
        chosen = struct_to_dict(to_model(preferences, updated_at_ms))
        try:
            value = self._codec.encode("preference", {"recipient_id": recipient_id, **chosen})
        except EncodeError as error:
            raise Refused(str(error)) from error
        await self._acknowledged(topics.PREFERENCES, recipient_id, value)

    def _lane(self, event: Event) -> str:
        priority = self._priorities.get(event.category, UNKNOWN_CATEGORY)
        if event.priority is not None and RANK[event.priority] > RANK[priority]:
            priority = event.priority
        return LANES[priority]

    async def _write(self, topic: str, recipient_id: str, value: bytes) -> asyncio.Future[Any]:
        assert self._producer is not None, "use the client as `async with`"
        key = recipient_id.encode()
        count = len(await self._producer.partitions_for(topic))
        future: asyncio.Future[Any] = await self._producer.send(
            topic, value, key, partition_for(key, count)
        )
        return future

    async def _acknowledged(self, topic: str, recipient_id: str, value: bytes) -> None:
        try:
            async with asyncio.timeout(self._ack_s_max):
                await (await self._write(topic, recipient_id, value))
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("Kafka did not acknowledge it") from error
