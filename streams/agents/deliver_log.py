"""Writes answers where they last, and reads back what a predecessor wrote.

Answers are gathered for a few milliseconds and written as record batches: first what DECIDE must
hear (``feedback``, ``receipts``) and dead letters, then ``outcomes``. An outcome in the log
therefore means that nothing of its delivery is missing; a crash in between makes the delivery
ambiguous, and DECIDE ignores what it hears twice.

Invariants: an answer counts as durable only when every replica that must has it (acks=all,
idempotent); a write that fails ends the runner; the order of answers is the order of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.agents.deliver_terms import Answered, Finished, Names
from streams.codec import Codec, DecodeError
from streams.engine.packing import Row, packed

GATHER_SECONDS = 0.003
ANSWERS_MAX = 500
"""Answers written together at most."""
TAIL_TIMEOUT_MS = 1_000
BATCH_BYTES_MAX = 1 << 20
RECORD_BYTES_MAX = 4 * BATCH_BYTES_MAX


class OutcomeLog:
    """The writer of one partition."""

    def __init__(self, producer: Any, partition: int, names: Names, end: int) -> None:
        self._producer = producer
        self._partition = partition
        self._names = names
        self.end = end
        """Offset of ``outcomes`` behind everything that is known to be there."""
        self._pending: list[Finished] = []
        self._arrived = asyncio.Event()
        self.settled = asyncio.Event()
        """Set while nothing waits to be written."""
        self.settled.set()

    def put(self, finished: Finished) -> None:
        """Takes an answer; it is written soon."""
        self.settled.clear()
        self._pending.append(finished)
        self._arrived.set()

    async def run(self, on_written: Callable[[], Awaitable[None]]) -> None:
        """Writes until cancelled; ``on_written`` is called after each round."""
        while True:
            await self._arrived.wait()
            if len(self._pending) < ANSWERS_MAX:
                await asyncio.sleep(GATHER_SECONDS)
            now, self._pending = self._pending[:ANSWERS_MAX], self._pending[ANSWERS_MAX:]
            if not self._pending:
                self._arrived.clear()
            await self._write(now)
            if not self._pending:
                self.settled.set()
            await on_written()

    async def _write(self, answers: list[Finished]) -> None:
        by_topic: dict[str, list[Row]] = {}
        for answer in answers:
            for topic, row in answer.aside:
                by_topic.setdefault(topic, []).append(row)
        if by_topic:
            await asyncio.gather(*(self._append(t, rows) for t, rows in by_topic.items()))
        with_outcome = [answer for answer in answers if answer.outcome is not None]
        rows = [answer.outcome for answer in with_outcome if answer.outcome is not None]
        offsets = await self._append(self._names.outcomes, rows)
        for answer, offset in zip(with_outcome, offsets, strict=True):
            self.end = max(self.end, offset + 1)
            answer.on_durable(offset)
        for answer in answers:
            if answer.outcome is None:
                answer.on_durable(self.end)

    async def _append(self, topic: str, rows: list[Row]) -> list[int]:
        """Appends rows and waits for all acknowledgements; their offsets in order."""
        acknowledged: list[tuple[Any, int]] = []
        if rows:
            for batch in packed(self._producer.create_batch, rows, RECORD_BYTES_MAX, topic):
                sent = await self._producer.send_batch(batch, topic, partition=self._partition)
                acknowledged.append((sent, batch.record_count()))
        offsets: list[int] = []
        for future, count in acknowledged:
            base = int((await future).offset)
            # After a repeated send the broker may no longer know where the first one went.
            first = base if base >= 0 else self.end
            offsets.extend(first + index if base >= 0 else first for index in range(count))
        return offsets


class LogClients:
    """The producer and the tail reader that all runners of a worker share.

    Made by the first runner, because only a runner's context knows how to reach the cluster.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._producer: Any = None
        self._consumer: Any = None

    async def start(self) -> None:
        """Nothing yet: see ``producer``."""

    async def stop(self) -> None:
        """Disconnects."""
        producer, self._producer = self._producer, None
        consumer, self._consumer = self._consumer, None
        if producer is not None:
            await producer.stop()
        if consumer is not None:
            await consumer.stop()

    async def producer(self, client_settings: dict[str, Any]) -> Any:
        """The shared idempotent producer."""
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_settings, acks="all", enable_idempotence=True, linger_ms=0,
                    max_batch_size=BATCH_BYTES_MAX, max_request_size=RECORD_BYTES_MAX,
                    compression_type="lz4",
                )  # fmt: skip
                await producer.start()
                self._producer = producer
            return self._producer

    async def tail(
        self, client_settings: dict[str, Any], topic: str, partition: int, start: int | None,
        codec: Codec,
    ) -> tuple[int, dict[str, dict[int, Answered]]]:  # fmt: skip
        """(end of ``outcomes``, delivery topic -> offset -> answer found from ``start`` on)."""
        async with self._lock:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **client_settings, enable_auto_commit=False, auto_offset_reset="none",
                    isolation_level="read_committed",
                )  # fmt: skip
                await consumer.start()
                self._consumer = consumer
            where = TopicPartition(topic, partition)
            end = int((await self._consumer.end_offsets([where]))[where])
            if start is None or start >= end:
                return end, {}
            first = int((await self._consumer.beginning_offsets([where]))[where])
            self._consumer.assign([where])
            self._consumer.seek(where, max(start, first))
            try:
                return end, await self._read(where, end, codec)
            finally:
                self._consumer.unsubscribe()

    async def _read(
        self, where: TopicPartition, end: int, codec: Codec
    ) -> dict[str, dict[int, Answered]]:
        found: dict[str, dict[int, Answered]] = {}
        while await self._consumer.position(where) < end:
            got = await self._consumer.getmany(where, timeout_ms=TAIL_TIMEOUT_MS)
            for record in got.get(where, ()):
                try:
                    outcome = codec.decode("outcome", record.value)
                except DecodeError:
                    continue  # nobody's answer: the ledger counts it
                answers = found.setdefault(outcome["delivery_topic"], {})
                answers[outcome["delivery_offset"]] = Answered(
                    record.offset, outcome["delivery_id"]
                )
        return found
