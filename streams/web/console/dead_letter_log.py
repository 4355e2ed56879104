"""Reading ``dead-letters`` backwards from its end, so that the newest come first.

A look takes the latest offsets of each partition and merges them by time; where it goes on is an
offset for each partition. Transactions leave markers among the offsets, so a look of so many
offsets holds fewer letters, sometimes none, and goes on all the same.

Invariants: no letter is left out between two looks and none comes twice; one look at a time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams import topics
from streams.api.problems import refuse
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings

READ_S_MAX = 5.0
POLL_MS = 200


class Letter(msgspec.Struct, frozen=True):
    """A record of the topic."""

    partition: int
    offset: int
    value: bytes | None
    timestamp_ms: int


class Look(msgspec.Struct, frozen=True):
    """Some letters, newest first, and where a next look goes on."""

    letters: list[Letter]
    ends: dict[int, int]
    """Partition -> offset before which was looked."""
    starts: dict[int, int]
    """Partition -> offset from which was looked; 0 where that is the beginning."""
    total: int
    floor_ms: int = 0
    """What is older than this may not be next: a partition was not read so far back."""

    def newest(self, count: int) -> list[Letter]:
        """At most ``count`` of the letters, in order and with none left out between them."""
        sure = [one for one in self.letters if one.timestamp_ms >= self.floor_ms]
        return (sure or self.letters[:1])[:count]

    def rest(self, taken: Sequence[Letter]) -> dict[int, int]:
        """Where to go on when only ``taken``, the first of them, were of use."""
        found = dict(self.ends)
        for one in taken:
            found[one.partition] = one.offset
        left = {one.partition for one in self.letters[len(taken) :]}
        found.update({p: start for p, start in self.starts.items() if p not in left})
        return {partition: end for partition, end in found.items() if end}


class DeadLetterLog:
    """Reads ``dead-letters`` backwards. One look at a time."""

    def __init__(
        self, engine: EngineSettings, partitions: int, topic: str = topics.DEAD_LETTERS
    ) -> None:
        self._engine = engine
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer: Any = None
        self._turn = asyncio.Lock()

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def before(self, ends: dict[int, int] | None, count: int) -> Look:
        """At most ``count`` letters of each partition in ``ends``, before them; of every one before
        the topic's end, without. Raises ``ProblemError`` (503)."""
        async with self._turn:
            try:
                async with asyncio.timeout(READ_S_MAX):
                    return await self._read(ends, count)
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                raise refuse(
                    "unavailable", "Kafka did not give the dead letters in time.", retry_after_s=1
                ) from error

    async def at(self, places: Sequence[tuple[int, int]]) -> list[Letter]:
        """The letters at these partitions and offsets, as far as they are there."""
        found = []
        for partition, offset in places:
            look = await self.before({partition: offset + 1}, 1)
            found += [one for one in look.letters if one.offset == offset]
        return found

    async def _read(self, ends: dict[int, int] | None, count: int) -> Look:
        consumer = await self._connected()
        begins = await consumer.beginning_offsets(self._places)
        last = await consumer.end_offsets(self._places)
        total = sum(last[place] - begins[place] for place in self._places)
        asked = {
            place: last[place] if ends is None else min(last[place], ends.get(place.partition, 0))
            for place in self._places
        }
        begin_at = {place: max(begins[place], asked[place] - count) for place in self._places}
        wanted = [place for place in self._places if asked[place] > begins[place]]
        found: dict[TopicPartition, list[Letter]] = {place: [] for place in wanted}
        if wanted:
            consumer.assign(wanted)
        for place in wanted:
            consumer.seek(place, begin_at[place])
        left = set(wanted)
        while left:
            batch = await consumer.getmany(*left, timeout_ms=POLL_MS)
            for place, records in batch.items():
                found[place] += [
                    Letter(place.partition, record.offset, record.value, record.timestamp)
                    for record in records
                    if record.offset < asked[place]
                ]
            for place in list(left):
                if await consumer.position(place) >= asked[place]:
                    left.discard(place)
        newest_first = [letters[::-1] for letters in found.values()]
        oldest = [
            letters[0].timestamp_ms
            for place, letters in found.items()
            if letters and begin_at[place] > begins[place]
        ]
        return Look(
            list(heapq.merge(*newest_first, key=lambda one: one.timestamp_ms, reverse=True)),
            {place.partition: asked[place] for place in wanted},
            {
                place.partition: 0 if begin_at[place] == begins[place] else begin_at[place]
                for place in wanted
            },
            total,
            max(oldest, default=0),
        )

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **client_settings(self._engine, "dead-letters-page"),
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
            await consumer.start()
            self._consumer = consumer
        return self._consumer
