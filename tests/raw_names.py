"""Records with headers whose names are not UTF-8, as librdkafka sends them."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy


class RawName(str):  # noqa: SLOT000 (there are a few)
    """A header's name that is sent as these bytes, whatever they are."""

    def __new__(cls, name: bytes) -> RawName:
        made = super().__new__(cls, name.decode("latin-1"))
        made.name = name
        return made

    name: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.name


async def send_named(
    producer: Any, where: TopicPartition, key: bytes, value: bytes, name: bytes
) -> int:
    """Sends a record with one header of that name; its offset.

    The producer must not be idempotent: aiokafka numbers compiled batches alone.
    """
    batch = producer.create_batch()
    codec = producer._message_accumulator._compression_type
    batch._builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 20)
    batch._builder.append(0, None, key, value, [(RawName(name), b"1")])
    batch._relative_offset = 1
    sent = await producer.send_batch(batch, where.topic, partition=where.partition)
    return int((await sent).offset)
