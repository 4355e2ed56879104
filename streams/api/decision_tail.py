"""Waits for the decision that a record of ours causes, and for nothing else.

Reads the end of single partitions of ``decisions``, only while somebody waits for one: from the
end as it was before the record was written, so the answer cannot be missed. An entry names the
record that caused it (topic, partition, offset), so the answer is exactly ours, whatever else is
being decided.

Invariants: nothing is read while nobody waits; a reader that died is made anew for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams import topics
from streams.codec import Codec, DecodeError
from streams.engine.log_writer import Placed
from streams.engine.reader import SharedReader, wait_for_arrival
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

RECORDS_MAX = 1_000
WAIT_S = 0.2
KEPT_MAX = 10_000
"""Entries kept for those who wait and do not know yet what for."""

Place = tuple[str, int, int]


class Watch:
    """The entries on one partition that records of some topic caused, since it was opened."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._found: dict[Place, list[dict[str, Any]]] = {}
        self._arrived = asyncio.Event()

    def add(self, place: Place, entry: dict[str, Any]) -> None:
        """An entry was read."""
        if len(self._found) < KEPT_MAX:
            self._found.setdefault(place, []).append(entry)
            self._arrived.set()

    async def entries(self, place: Placed, timeout_s: float) -> list[dict[str, Any]]:
        """Entries that the record at ``place`` caused; ``[]`` when there is none in time."""
        wanted = place.topic, place.partition, place.offset
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while wanted not in self._found:
                    self._arrived.clear()
                    await self._arrived.wait()
        return self._found.get(wanted, [])


class DecisionTail:
    """One reader for all who wait in this process."""

    def __init__(self, engine: EngineSettings, codec: Codec) -> None:
        self._engine = engine
        self._codec = codec
        self._reader: SharedReader | None = None
        self._starting = asyncio.Lock()
        self._watches: dict[int, list[Watch]] = {}
        self._pump: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Nobody waits any more."""
        await self._end_pump()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    @asynccontextmanager
    async def watch(self, partition: int, topic: str) -> AsyncIterator[Watch]:
        """From now on, entries of a partition that records of ``topic`` cause.

        Without Kafka it watches nothing: what is then written is not acknowledged either.
        """
        watch = Watch(topic)
        self._watches.setdefault(partition, []).append(watch)
        try:
            await self._follow(partition)
            yield watch
        finally:
            watches = self._watches[partition]
            watches.remove(watch)
            if not watches:
                del self._watches[partition]
                self._unfollow(partition)

    async def _follow(self, partition: int) -> None:
        place = TopicPartition(topics.DECISIONS, partition)
        try:
            async with self._starting:
                reader = self._reader or await self._start()
                if place not in reader.assigned():
                    end = (await reader.end_offsets([place]))[place]
                    reader.add({place: end})
                if self._pump is None or self._pump.done():
                    self._pump = asyncio.create_task(self._run(reader), name="decision-tail")
        except (KafkaError, OSError) as error:
            log.warning("decisions cannot be read now: %r", error)
            await self._discard()

    def _unfollow(self, partition: int) -> None:
        if self._reader is not None:
            self._reader.remove([TopicPartition(topics.DECISIONS, partition)])

    async def _start(self) -> SharedReader:
        reader = SharedReader("api-decisions", self._engine, self._on_death)
        await reader.start()
        self._reader = reader
        return reader

    async def _run(self, reader: SharedReader) -> None:
        while self._watches:
            await wait_for_arrival([reader], WAIT_S)
            for place in reader.assigned():
                for record in reader.drain(place, RECORDS_MAX):
                    self._read(record)

    def _read(self, record: Any) -> None:
        watches = self._watches.get(record.partition, [])
        names = {watch.topic for watch in watches}
        value = record.value or b""
        if not any(name.encode() in value for name in names):
            return
        try:
            decision = self._codec.decode("decision", value)
        except DecodeError:
            return
        for entry in decision["entries"]:
            if entry["source_topic"] in names:
                place = entry["source_topic"], entry["source_partition"], entry["source_offset"]
                for watch in watches:
                    if watch.topic == entry["source_topic"]:
                        watch.add(place, entry)

    def _on_death(self, error: BaseException) -> None:
        log.warning("the reader of decisions ended: %r", error)
        self._reader = None

    async def _discard(self) -> None:
        await self._end_pump()
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(Exception):
                await reader.stop()

    async def _end_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
