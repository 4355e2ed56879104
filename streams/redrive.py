"""Trying a dead letter again: what is sent for one, and sending it.

Two kinds of dead letters, two ways back. A *delivery* that ran out of attempts goes to ``feedback``
as status ``redrive`` with its epoch raised: DECIDE checks every rule again and sends it with the
ids it always had. A *record* that could not be decided goes back to its own topic and partition
with its original key and bytes; by now it may be readable (a schema was registered, a category
added), else it becomes a dead letter again.

Used by ``flowstate redrive`` and by the page of dead letters. Invariants: doing it twice changes
nothing more (a known epoch is ignored, a known event id is a duplicate); nothing is counted as
done before Kafka has acknowledged it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from streams import topics
from streams.agents.burying import CUT
from streams.codec import Codec
from streams.core.model import Delivery

INPUTS = frozenset((*topics.EVENTS, *topics.CONTROL)) - {topics.TICKS}
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


def delivery_of(letter: Mapping[str, Any]) -> Delivery | None:
    """The delivery in a decoded dead letter, if it is one that ran out of attempts."""
    if letter["delivery"] is None:
        return None
    return msgspec.convert(_positional(letter["delivery"]), Delivery)


def was_cut(letter: Mapping[str, Any]) -> bool:
    """Whether a decoded dead letter has only a part of its record: that is sent to nobody."""
    return any(header["name"] == CUT for header in letter["headers"])


def again_of(codec: Codec, letter: Mapping[str, Any], partition: int, offset: int) -> Again | None:
    """What is sent to try a decoded dead letter again; ``None`` where there is no way back."""
    origin = f"{partition}/{offset}"
    delivery = delivery_of(letter)
    if delivery is not None:
        return _feedback(codec, delivery, partition, origin, letter["reason"])
    if letter["topic"] not in INPUTS or was_cut(letter):
        return None
    return Again(
        letter["topic"], letter["partition"], letter["key"], letter["value"], origin,
        letter["reason"],
    )  # fmt: skip


async def send_again(records: Sequence[Again], client: Mapping[str, Any]) -> int:
    """Sends them; how many Kafka acknowledged (all, or an error is raised)."""
    producer = AIOKafkaProducer(**client, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        sent = [
            await producer.send(
                one.topic, one.value, one.key, one.partition,
                headers=[(HEADER, one.origin.encode())],
            )
            for one in records
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
