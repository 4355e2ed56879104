"""Finds events of a run that are worth explaining, so that a person has something to look at.

Reads the decisions of a few partitions and remembers what happened to each event; then picks one
of each kind of story. The same decisions give the same picks.

Invariant: bounded, in records read and in events remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.codec import Codec, DecodeError

PARTITIONS_READ = 2
EVENTS_MAX = 20_000
POLL_MS = 500


class Story(msgspec.Struct, frozen=True):
    """An event, and in a few words why it is interesting."""

    recipient_id: str
    event_id: str
    about: str


class Happened(msgspec.Struct):
    """What the decisions say of one event: (verdict, reason) in order."""

    recipient_id: str
    steps: list[tuple[str, str]] = []

    def has(self, verdict: str, reason: str = "") -> bool:
        """Whether there was such a step; an empty reason is any."""
        return any(v == verdict and reason in ("", r) for v, r in self.steps)


async def find_stories(client: Mapping[str, Any]) -> list[Story]:
    """One event of each kind of story that the run has. Raises aiokafka's errors."""
    events: dict[str, Happened] = {}
    codec = Codec(None)
    partitions = [TopicPartition(topics.DECISIONS, number) for number in range(PARTITIONS_READ)]
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
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            for place in sorted(fetched):
                for record in fetched[place]:
                    _note(events, codec, record.value)
    finally:
        await consumer.stop()
    return list(pick(events))


def pick(events: Mapping[str, Happened]) -> Iterator[Story]:
    """The first event, by id, of each kind of story."""
    kinds: tuple[tuple[str, Callable[[Happened], bool]], ...] = (
        (
            "held over the night, then sent",
            lambda e: e.has("held", "quiet_hours") and e.has("delivering"),
        ),
        ("not wanted", lambda e: e.has("suppressed", "opted_out")),
        ("refused by the provider at first", lambda e: e.has("retrying")),
        ("gathered with others", lambda e: e.has("digested")),
    )
    for about, is_one in kinds:
        for event_id in sorted(events):
            if is_one(events[event_id]):
                yield Story(events[event_id].recipient_id, event_id, about)
                break


def _note(events: dict[str, Happened], codec: Codec, value: bytes) -> None:
    try:
        decision = codec.decode("decision", value)
    except DecodeError:
        return
    for entry in decision["entries"]:
        event_id = entry["event_id"]
        if event_id is None or (event_id not in events and len(events) >= EVENTS_MAX):
            continue
        happened = events.setdefault(event_id, Happened(decision["recipient_id"]))
        happened.steps.append((entry["verdict"], entry["reason"]))
