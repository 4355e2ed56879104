"""Writes to Kafka, acknowledged by all in-sync replicas or refused; never "perhaps, later".

``write`` returns only when every record has its place in the log, or says which have none. While
Kafka is away it refuses at once: a keeper asks for it in the background, so a request never waits
to find out. A producer that missed a deadline is thrown away with everything it had not sent: what
was refused must not appear in the log minutes later and overwrite what was said since. (What was
already on the wire may still be appended; event ids make a resend harmless.)

Invariants: idempotent producer, ``acks=all``; at most one producer at a time; after a missed
deadline one write at a time is let through until one is acknowledged. The members of aiokafka
used beyond its documented API are all in ``_abandon``; a test fails when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.engine.clients import client_settings, compression_of
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

BATCH_BYTES = 262_144
START_MS_MAX = 10_000
RESTART_MS = 250
CLOSE_S_MAX = 2


class OutRecord(msgspec.Struct, gc=False):
    """One record to write."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]] = []


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


class NotWritten(msgspec.Struct, frozen=True):
    """Why a record has no place. ``too_large`` will never have one."""

    reason: str
    too_large: bool = False


Written = Placed | NotWritten
_AWAY = NotWritten("Kafka is away")


class TopicsWrong(Exception):  # noqa: N818 (a state, named for what it is)
    """The topics are not as configured: nothing that is written would be found."""


class LogWriter:
    """One producer, watched. All methods on one event loop."""

    def __init__(
        self,
        engine: EngineSettings,
        topics: Sequence[str],
        purpose: str,
        *,
        ack_ms_max: int,
        probe_ms: int = 1_000,
        linger_ms: int = 2,
    ) -> None:
        self._engine = engine
        self._topics = tuple(topics)
        self._purpose = purpose
        self._ack_s = ack_ms_max / 1000
        self._probe_s = probe_ms / 1000
        self._linger_ms = linger_ms
        self._producer: Any = None
        self._acknowledged_at = 0.0
        self._is_trial = False
        self._trial_running = False
        self._keeper: asyncio.Task[None] | None = None
        self._suspect = asyncio.Event()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._closed = False

    # -------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Connects if Kafka is there; else goes on trying. Raises ``TopicsWrong``."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._purpose}-keeper")

    async def stop(self) -> None:
        """Waits for what is on its way, no longer than a write may take, and disconnects."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), self._ack_s)
            except (TimeoutError, KafkaError):
                await _abandon(producer)
        await asyncio.gather(*self._abandoning, return_exceptions=True)

    @property
    def is_up(self) -> bool:
        """Whether a write would be tried now."""
        return self._producer is not None

    # ------------------------------------------------------------------------------------- writes

    async def write(self, records: Sequence[OutRecord]) -> list[Written]:
        """What became of each record, in order. Takes at most ``ack_ms_max``."""
        producer = self._producer
        if producer is None or (self._is_trial and self._trial_running):
            return [_AWAY] * len(records)
        if not self._is_trial:
            return await self._write(producer, records)
        self._trial_running = True
        try:
            return await self._write(producer, records)
        finally:
            self._trial_running = False

    async def _write(self, producer: Any, records: Sequence[OutRecord]) -> list[Written]:
        written: list[Written] = []
        futures: list[asyncio.Future[Any]] = []
        failure = ""
        send = producer.send
        try:
            async with asyncio.timeout(self._ack_s):
                for record in records:
                    future = await send(
                        record.topic, record.value, record.key, record.partition,
                        headers=record.headers,
                    )  # fmt: skip
                    futures.append(future)
                for future in futures:
                    written.append(await _settled(future))  # noqa: PERF401 (keeps what it has)
        except TimeoutError:
            # Answers that came in the same moment count: the record is there.
            written += [_if_done(future) for future in futures[len(written) :]]
            failure = "no acknowledgement in time"
        except KafkaError as error:
            # Nothing more can be sent; what was sent before is answered or lost with the producer.
            written += [_if_done(future) for future in futures[len(written) :]]
            failure = repr(error)
        written += [_AWAY] * (len(records) - len(written))
        if any(isinstance(place, Placed) for place in written):
            self._acknowledged_at = time.monotonic()
            self._is_trial = False
        failed = [w for w in written if isinstance(w, NotWritten) and not w.too_large]
        if failed:
            self._replace(producer, failure or failed[0].reason)
        return written

    # ------------------------------------------------------------------------------------- keeper

    async def _keep(self) -> None:
        """Keeps asking whether Kafka is there, and connects again when it was not."""
        while True:
            with contextlib.suppress(TimeoutError):
                pause_s = self._probe_s if self._producer is not None else RESTART_MS / 1000
                await asyncio.wait_for(self._suspect.wait(), pause_s)
            self._suspect.clear()
            producer = self._producer
            if producer is None:
                try:
                    await self._connect()
                except TopicsWrong as error:
                    log.error("%s", error)
            elif time.monotonic() - self._acknowledged_at > self._probe_s:
                try:
                    await asyncio.wait_for(producer.client.fetch_all_metadata(), self._probe_s)
                except (TimeoutError, KafkaError, OSError) as error:
                    self._replace(producer, f"no answer to a question ({error!r})")

    async def _connect(self) -> None:
        engine = self._engine
        producer = AIOKafkaProducer(
            **client_settings(engine, self._purpose),
            enable_idempotence=True,
            acks="all",
            compression_type=compression_of(engine),
            linger_ms=self._linger_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=engine.record_bytes_max,
        )
        try:
            async with asyncio.timeout(START_MS_MAX / 1000):
                await producer.start()
                await self._check(producer)
        except TopicsWrong:
            await _abandon(producer)
            raise
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("Kafka does not answer: %r", error)
            await _abandon(producer)
            return
        log.info("%s writes to Kafka", self._purpose)
        self._acknowledged_at = time.monotonic()
        self._producer = producer

    async def _check(self, producer: Any) -> None:
        cluster = await producer.client.fetch_all_metadata()
        for topic in self._topics:
            count = len(cluster.partitions_for_topic(topic) or ())
            if count == 0:
                raise TopicsWrong(f"there is no topic {topic}: run `flowstate topics create`")
            if count != self._engine.partitions:
                raise TopicsWrong(
                    f"topic {topic} has {count} partitions, the configuration says"
                    f" {self._engine.partitions}: what is written would not be found"
                )
        await producer.client.set_topics(self._topics)

    def _replace(self, producer: Any, why: str) -> None:
        """From now on everything is refused until a new producer has connected."""
        if self._producer is not producer:
            return
        log.warning("%s refuses until Kafka answers again: %s", self._purpose, why)
        self._producer = None
        self._is_trial = True
        task = asyncio.create_task(_abandon(producer), name=f"{self._purpose}-abandon")
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)
        self._suspect.set()


async def _settled(future: asyncio.Future[Any]) -> Written:
    try:
        place = await future
    except MessageSizeTooLargeError:
        return NotWritten("the record is too large", too_large=True)
    except KafkaError as error:
        return NotWritten(repr(error))
    return Placed(place.topic, place.partition, place.offset)


def _if_done(future: asyncio.Future[Any]) -> Written:
    if future.done() and not future.cancelled() and future.exception() is None:
        place = future.result()
        return Placed(place.topic, place.partition, place.offset)
    future.add_done_callback(_heard)
    return NotWritten("no acknowledgement in time")


def _heard(future: asyncio.Future[Any]) -> None:
    """Asks for the exception, or asyncio warns that nobody did."""
    if not future.cancelled():
        future.exception()


async def _abandon(producer: Any) -> None:
    """Ends a producer without waiting for what it has not sent (``stop`` would, for ever)."""
    producer._closed = True
    accumulator = producer._message_accumulator
    accumulator._closed = True
    waiting = [b for batches in accumulator._batches.values() for b in batches]
    for batch in (*waiting, *accumulator._pending_batches):
        batch._drain_waiter.add_done_callback(_heard)
    accumulator.fail_all(KafkaError("abandoned"))
    accumulator._batches.clear()
    task = producer._sender.sender_task
    if task is not None:
        task.add_done_callback(_heard)
        task.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(producer.client.close(), CLOSE_S_MAX)
    if task is not None:
        await asyncio.wait([task], timeout=CLOSE_S_MAX)
