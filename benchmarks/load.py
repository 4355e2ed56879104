"""Puts records into Kafka: at once, or behind a gate that opens for all of them together.

The gate is a Kafka transaction: what it holds is in the log, and no reader of committed records
sees any of it until it is opened. So a backlog can be laid before a worker that is up and warm,
and the moment at which it becomes visible is known.

Invariant: everything was acknowledged when ``fill`` returns; nothing is lost silently.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from benchmarks.people import Record

FLUSH_S_MAX = 120.0
POLL_EVERY = 1_000
GATE_MS_MAX = 60_000
"""The broker ends a transaction that is open for longer: as much as fits into it can be gated."""


class Loader:
    """A stock producer: lz4, all acknowledgements, murmur2 as Java has it."""

    def __init__(self, bootstrap: str, **more: Any) -> None:
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                "batch.size": 1 << 19,
                "queue.buffering.max.messages": 500_000,
                "log_level": 3,  # a coordinator that loads at first is no news
                **more,
            }
        )

    def fill(self, records: Iterable[Record]) -> int:
        """Sends all; returns how many. Raises RuntimeError unless all were acknowledged."""
        count = 0
        for topic, key, value in records:
            self.send(topic, key, value)
            count += 1
            if count % POLL_EVERY == 0:
                self.poll()
        self.flush()
        return count

    def send(self, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
        """Queues one record; waits while the queue is full. ``partition`` -1 is the key's."""
        while True:
            try:
                self._producer.produce(topic, value, key, partition, self._on_delivery)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def poll(self) -> None:
        """Hears of acknowledgements that came."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits for every acknowledgement."""
        left = self._producer.flush(FLUSH_S_MAX)
        if left:
            self._failures.append(f"{left} records unanswered after {FLUSH_S_MAX:.0f} s")
        if self._failures:
            raise RuntimeError(f"{len(self._failures)} failures: {self._failures[0]}")

    def close(self) -> None:
        """Disconnects."""
        self._producer.close()

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failures.append(str(error))


class Gate(Loader):
    """A loader whose records become visible all at once, with ``open``; use ``with``."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(
            bootstrap,
            **{
                "transactional.id": f"bench-gate-{uuid.uuid4().hex}",
                "transaction.timeout.ms": GATE_MS_MAX,
            },
        )

    def __enter__(self) -> Self:
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Makes everything visible."""
        self._producer.commit_transaction(30)


def fill(bootstrap: str, records: Iterable[Record]) -> int:
    """Sends records with a loader of their own."""
    loader = Loader(bootstrap)
    try:
        return loader.fill(records)
    finally:
        loader.close()


def count_committed(bootstrap: str, topic: str) -> int:
    """Committed records of a topic."""
    return sum(1 for _ in read_messages(bootstrap, topic))


def read_committed(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Values of a topic's committed records, to its end as it is now."""
    return (message.value() or b"" for message in read_messages(bootstrap, topic))


def read_messages(bootstrap: str, topic: str) -> Iterator[Message]:
    """A topic's committed records, to its end as it is now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-count-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ended: set[int | None] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(10_000, timeout=1.0):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    raise RuntimeError(f"{topic} cannot be read: {error.str()}")
    finally:
        consumer.close()
