"""``flowstate redrive``: what ended as a dead letter is tried again, once its cause is mended.

Reads ``dead-letters`` to its end and plans; ``streams/redrive.py`` says what is sent for each.

Invariants: of several dead letters of one delivery only the newest counts; nothing is counted as
done before Kafka has acknowledged it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.codec import Codec, DecodeError
from streams.commands.failures import CommandError
from streams.commands.kafka import partition_count
from streams.configuration.problems import did_you_mean
from streams.dead_letters import CAUSES
from streams.redrive import Again, again_of, delivery_of, send_again

POLL_MS = 500


class RedrivePlan(msgspec.Struct):
    """What would be done."""

    again: list[Again]
    reasons: Counter[str]
    """Reason -> dead letters that can be tried again."""
    passed_over: int
    """Dead letters that match and have no way back: an older one of a delivery, or unreadable."""
    seen: Counter[str]
    """Reason -> all dead letters that can be read, of the recipient if one is named."""


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
    passed_over, seen = 0, Counter[str]()
    async for record in _dead_letters(client, topic):
        try:
            letter = codec.decode("dead_letter", record.value)
        except DecodeError:
            passed_over += 1
            continue
        if recipient_id is not None and letter["recipient_id"] != recipient_id:
            continue
        seen[letter["reason"]] += 1
        if reason is not None and letter["reason"] != reason:
            continue
        delivery = delivery_of(letter)
        again = again_of(codec, letter, record.partition, record.offset)
        if again is None:
            passed_over += 1
        elif delivery is None:
            records.append(again)
        else:
            known = deliveries.get(delivery.delivery_id)
            passed_over += known is not None
            if known is None or known[0] < delivery.epoch:
                deliveries[delivery.delivery_id] = (delivery.epoch, again)
    every = [*(one for _, one in deliveries.values()), *records]
    return RedrivePlan(every, Counter(one.reason for one in every), passed_over, seen)


def no_such_reason(reason: str, seen: Mapping[str, int]) -> CommandError:
    """Whether it is mistyped, or nothing ended so, is for whoever asked: both list what did."""
    there = ", ".join(f"{code} ({seen[code]:,})" for code in sorted(seen)) or "none at all"
    meant = "" if reason in CAUSES else did_you_mean(reason, {*seen, *CAUSES})
    return CommandError(
        f"no dead letter has the reason {reason!r}{meant}",
        f"There are: {there}. What each code means is in docs/reasons.md, under Dead letters.",
    )


async def redrive(plan: RedrivePlan, client: Mapping[str, Any]) -> int:
    """Sends it; how many Kafka acknowledged (all, or an error is raised)."""
    return await send_again(plan.again, client)


async def _dead_letters(client: Mapping[str, Any], topic: str) -> AsyncIterator[Any]:
    count = await partition_count(topic, client)
    partitions = [TopicPartition(topic, number) for number in range(count)]
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # With "latest" the reset that follows assign() may undo the seek: nothing would be read.
        auto_offset_reset="earliest",
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
