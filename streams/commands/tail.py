"""``flowstate tail``: decoded records of one topic, one JSON object on each line.

It reads as the roles do (``read_committed``, our own schemas) but belongs to no group and commits
nothing, so looking never changes what is looked at. A record that cannot be decoded is shown with
the reason and its bytes in hexadecimal. Addresses are masked unless asked for: a terminal has
scroll-back, and a ticket has attachments.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.codec import Codec, DecodeError
from streams.commands.kafka import partition_count

POLL_MS = 500
BYTES_SHOWN_MAX = 256
MASKED_FIELDS = frozenset({"address"})


async def tail(
    topic: str,
    client: Mapping[str, Any],
    *,
    last: int = 0,
    from_beginning: bool = False,
    follow: bool = True,
    recipient_id: str | None = None,
    show_addresses: bool = False,
    registry_url: str | None = None,
) -> AsyncIterator[str]:
    """JSON lines of ``topic``: from its end, its beginning, or ``last`` records of each partition
    before the end; on and on with ``follow``, else up to the end as it was at the start.

    Raises aiokafka's errors; ``UnknownTopicOrPartitionError`` when there is no such topic.
    """
    spec = topics.BY_NAME.get(topic)
    codec = Codec(registry_url)
    count = await partition_count(topic, client)
    consumer = AIOKafkaConsumer(
        **client, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            start = begins[partition] if from_beginning else ends[partition] - last
            consumer.seek(partition, max(begins[partition], start))
        wanted = recipient_id.encode() if recipient_id is not None else None
        while follow or not await _reached(consumer, ends):
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            records = sorted(
                (record for batch in fetched.values() for record in batch),
                key=lambda record: (record.timestamp, record.partition, record.offset),
            )
            await codec.prepare([record.value for record in records if record.value])
            for record in records:
                if wanted is None or record.key == wanted:
                    yield line_of(record, spec.schema if spec else None, codec, show_addresses)
    finally:
        await consumer.stop()


def line_of(record: Any, record_name: str | None, codec: Codec, show_addresses: bool) -> str:
    """One record as a JSON line; what cannot be decoded is shown as it is, with the reason."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": _text(record.key),
    }
    if record.value is None or record_name is None:
        shown["value"] = _text(record.value)
    else:
        try:
            value = codec.decode(record_name, record.value)
        except DecodeError as error:
            shown["undecodable"] = str(error)
            shown["bytes"] = record.value[:BYTES_SHOWN_MAX].hex()
        else:
            shown["value"] = value if show_addresses else masked(value)
    return json.dumps(shown, ensure_ascii=False, default=_text)


def masked(value: Any) -> Any:
    """The same value with addresses reduced to their last four characters."""
    if isinstance(value, dict):
        return {
            name: f"...{item[-4:]}" if name in MASKED_FIELDS and item else masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """True when every partition was read up to ``ends``."""
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True


def _text(value: object) -> str | None:
    """Bytes as text where they are text, else in hexadecimal."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return str(value)
    shown = value[:BYTES_SHOWN_MAX]
    try:
        return shown.decode()
    except UnicodeDecodeError:
        return f"0x{shown.hex()}"
