"""The demo's producer: the stock one. confluent-kafka with its own ``AvroSerializer``.

What: four producers, one for each compression that Kafka has, used in turn. Each serializes with
the Confluent wire format against our schema registry, as any service with that library would.

Why not our own codec: a producer of another team knows nothing of this code; what it can do, and
the one setting that it needs (``partitioner``), is shown by doing it.

Invariants: ``flush`` returns only when everything sent before was acknowledged by all in-sync
replicas, or raises; order is kept over the change of producers, because every change flushes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

COMPRESSIONS = ("lz4", "snappy", "zstd", "gzip")
FLUSH_S_MAX = 60.0
QUEUE_RECORDS_MAX = 100_000


class NotAcknowledgedError(Exception):
    """Kafka did not acknowledge what was sent; the message says how much and why."""


class StockProducer:
    """Sends records of our schemas; ``use`` chooses which of the compressions is next."""

    def __init__(
        self,
        bootstrap: str,
        registry_url: str,
        schemas: Mapping[str, str],
        security: Mapping[str, Any] | None = None,
    ) -> None:
        """``schemas``: topic -> text of its value's schema. ``security``: librdkafka's names."""
        self._producers = [
            Producer(_settings(bootstrap, compression) | dict(security or {}))
            for compression in COMPRESSIONS
        ]
        self._producer = self._producers[0]
        registry = SchemaRegistryClient({"url": registry_url})
        self._serializers = {
            topic: AvroSerializer(registry, schema) for topic, schema in schemas.items()
        }
        self._failures: list[str] = []
        self.acknowledged = 0

    def use(self, number: int) -> str:
        """Flushes, then takes the next compression (counting on); its name."""
        self.flush()
        place = number % len(COMPRESSIONS)
        self._producer = self._producers[place]
        return COMPRESSIONS[place]

    def send(self, topic: str, key: str, value: Mapping[str, Any], timestamp_ms: int) -> None:
        """Queues one Avro record; the partition is the key's."""
        context = SerializationContext(topic, MessageField.VALUE)
        self.send_bytes(topic, key, self._serializers[topic](value, context), timestamp_ms)

    def send_bytes(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        timestamp_ms: int,
        partition: int = -1,
    ) -> None:
        """Queues bytes as they are; ``partition`` -1 is the key's."""
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, timestamp=timestamp_ms,
                    on_delivery=self._on_delivery,
                )  # fmt: skip
            except BufferError:  # the local queue is full: give what is on its way time to arrive
                self._producer.poll(0.05)
            else:
                self._producer.poll(0)
                return

    def tick(self, topic: str, partitions: Sequence[int], at_ms: int) -> None:
        """Says on every partition that nothing earlier than ``at_ms`` will come any more."""
        self.flush()
        for partition in partitions:
            self.send_bytes(topic, None, None, at_ms, partition)
        self.flush()

    def flush(self) -> None:
        """Waits for every acknowledgement. Raises ``NotAcknowledgedError``."""
        left = self._producer.flush(FLUSH_S_MAX)
        if left:
            self._failures.append(f"{left} records unanswered after {FLUSH_S_MAX:.0f} s")
        if self._failures:
            raise NotAcknowledgedError(
                f"{len(self._failures)} failures, the first: {self._failures[0]}"
            )

    def close(self) -> None:
        """Disconnects: else each of them complains when its broker stops."""
        for producer in self._producers:
            producer.close()

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self._failures.append(str(KafkaException(error)))


def _settings(bootstrap: str, compression: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        # librdkafka's default (CRC32) would put a recipient on another partition than Java does.
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": compression,
        "linger.ms": 5,
        "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
    }
