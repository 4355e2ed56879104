"""``flowstate redrive``: what ended as a dead letter is tried again, once its cause is mended.

Two kinds of dead letters, two ways back. A *delivery* that ran out of attempts goes to ``feedback``
as status ``redrive`` with its epoch raised: DECIDE checks every rule again and sends it with the
ids it always had. A *record* that could not be decided goes back to its own topic and partition
with its original key and bytes; by now it may be readable (a schema was registered, a category
added), else it becomes a dead letter again.

Invariants: doing it twice changes nothing more (a known epoch is ignored, a known event id is a
duplicate); of several dead letters of one delivery only the newest counts; nothing is counted as
done before Kafka has acknowledged it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec.structs import replace

from streams import topics
from streams.codec import Codec, DecodeError
from streams.commands.kafka import partition_count
from streams.core.model import Delivery

INPUTS = frozenset((*topics.EVENTS, *topics.CONTROL)) - {topics.TICKS}
POLL_MS = 500
HEADER = "flowstate-redriven"
"""On a record sent back: the dead letter's partition and offset."""


class Again(msgspec.Struct, frozen=True):
    """One record to send: where, and what."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    origin: str
    """``partition/offset`` of the dead letter."""
    reason: str


class RedrivePlan(msgspec.Struct):
    """What would be done."""

    again: list[Again]
    reasons: Counter[str]
    """Reason -> dead letters that can be tried again."""
    passed_over: int
    """Dead letters that match and have no way back: an older one of a delivery, or unreadable."""


async def plan_redrive(
    client: Mapping[str, Any],
    reason: str | None = None,
    recipient_id: str | None = None,
    topic: str = topics.DEAD_LETTERS,
) -> RedrivePlan:
    """Reads ``dead-letters`` up to their end. Raises aiokafka's errors."""
    codec = Codec(None)
    records: list[Again] = []
    deliveries: dict[str, tuple[int, Again]] = {}
    passed_over = 0
    async for record in _dead_letters(client, topic):
        try:
            letter = codec.decode("dead_letter", record.value)
        except DecodeError:
            passed_over += 1
            continue
        if reason is not None and letter["reason"] != reason:
            continue
        if recipient_id is not None and letter["recipient_id"] != recipient_id:
            continue
        origin = f"{record.partition}/{record.offset}"
        if letter["delivery"] is not None:
            delivery = msgspec.convert(_positional(letter["delivery"]), Delivery)
            known = deliveries.get(delivery.delivery_id)
            passed_over += known is not None
            if known is None or known[0] < delivery.epoch:
                newest = _feedback(codec, delivery, record.partition, origin, letter["reason"])
                deliveries[delivery.delivery_id] = (delivery.epoch, newest)
        elif letter["topic"] in INPUTS:
            records.append(
                Again(
                    letter["topic"], letter["partition"], letter["key"], letter["value"], origin,
                    letter["reason"],
                )
            )  # fmt: skip
        else:
            passed_over += 1
    again = [*(one for _, one in deliveries.values()), *records]
    return RedrivePlan(again, Counter(one.reason for one in again), passed_over)


async def redrive(plan: RedrivePlan, client: Mapping[str, Any]) -> int:
    """Sends it; how many Kafka acknowledged (all, or an error is raised)."""
    producer = AIOKafkaProducer(**client, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        sent = [
            await producer.send(
                one.topic, one.value, one.key, one.partition,
                headers=[(HEADER, one.origin.encode())],
            )
            for one in plan.again
        ]  # fmt: skip
        for acknowledged in sent:
            await acknowledged
    finally:
        await producer.stop()
    return len(sent)


def _feedback(codec: Codec, delivery: Delivery, partition: int, origin: str, reason: str) -> Again:
    """The operator's answer to a delivery: the same ids, the next epoch, no attempt made yet."""
    now_ms = time.time_ns() // 1_000_000
    again = replace(delivery, epoch=delivery.epoch + 1, attempt=0)
    value = codec.encode_feedback(again, "redrive", "redrive", None, now_ms, "operator")
    return Again(topics.FEEDBACK, partition, delivery.recipient_id.encode(), value, origin, reason)


def _positional(mapping: Mapping[str, Any]) -> list[Any]:
    """A decoded delivery as the list that its struct is encoded as."""
    fields = [mapping[name] for name in Delivery.__struct_fields__]
    items = Delivery.__struct_fields__.index("items")
    fields[items] = [
        [item["event_id"], item["created_at_ms"], item["actor_id"], item["data"]]
        for item in fields[items]
    ]
    return fields


async def _dead_letters(client: Mapping[str, Any], topic: str) -> AsyncIterator[Any]:
    count = await partition_count(topic, client)
    partitions = [TopicPartition(topic, number) for number in range(count)]
    consumer = AIOKafkaConsumer(
        **client, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(at) < end for at, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            for batch in fetched.values():
                for record in batch:
                    yield record
    finally:
        await consumer.stop()
