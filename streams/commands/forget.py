"""``flowstate forget``: erases a recipient, and shows what is left of them.

To forget is one record on ``erasures``, acknowledged, and then waiting until the workers that own
the recipient say that nothing is left in their tables. What Kafka itself still holds goes by
compaction and retention: ``verify`` reads the recipient's partition of every topic to its end and
says what is there and until when.

Invariants: nothing is called gone that was not looked at; what could not be asked counts as left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import tables, topics
from streams.api.problems import ProblemError
from streams.api.state_client import StateClient
from streams.codec import Codec, DecodeError
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.engine.topics_admin import COMPACTED_WITHIN_HOURS, HOUR_MS
from streams.partitioning import partition_of_recipient
from streams.privacy import Pseudonyms
from streams.settings import Settings
from streams.topics import TopicSpec
from streams.web.state_documents import KeptOfRecipient

ACK_MS_MAX = 10_000
DONE_S_MAX = 30.0
POLL_S = 0.1
FETCH_MS = 500
STATE_PARTS = (tables.PROFILE, tables.ACTIVITY, tables.WAITING)
WITHOUT_PEOPLE = frozenset(
    {topics.KILL_SWITCH, topics.TICKS, topics.LOOKS, topics.ERASURES, topics.LEDGER_HOURS}
)
"""Topics that name nobody: in ``looks`` and ``erasures`` people are keyed hashes."""


class Left(msgspec.Struct, frozen=True):
    """What one place still holds."""

    place: str
    """``state`` and ``ledger`` are tables; anything else is a topic."""
    what: str
    """Parts of a table, or how many records; why, when it could not be asked."""
    gone_by_ms: int | None = None
    """When it is gone at the latest; ``None``: not by itself."""


class Verdict(msgspec.Struct, frozen=True):
    """What is left of a recipient, and what refuses more."""

    left: list[Left]
    marks: dict[str, bool]
    """Table -> whether the mark of the erasure is there."""
    records_read: int

    @property
    def tables_are_clean(self) -> bool:
        """Whether both tables hold nothing and have the mark."""
        held = {one.place for one in self.left} & {"state", "ledger"}
        return not held and all(self.marks.get(table) for table in ("state", "ledger"))


class NotForgotten(Exception):  # noqa: N818 (a state, named for what happened)
    """The erasure could not be written or was not carried out in time; the text says which."""


async def forget(settings: Settings, recipient_id: str, lifted: bool = False) -> None:
    """Writes the erasure and waits until the tables hold nothing. Raises ``NotForgotten``."""
    names = Pseudonyms(settings.privacy)
    name = names.of(recipient_id).hex()
    fields = {
        "recipient_hash": name,
        "sealed": names.seal(recipient_id),
        "forgotten_at_ms": time.time_ns() // 1_000_000,
        "lifted": lifted,
    }
    partition = partition_of_recipient(recipient_id, settings.kafka.partitions)
    value = Codec().encode("erasure", fields)
    record = OutRecord(topics.ERASURES, partition, name.encode(), value)
    writer = LogWriter(settings.engine, [topics.ERASURES], "forget", ack_ms_max=ACK_MS_MAX)
    await writer.start()
    try:
        (place,) = await writer.write([record])
    finally:
        await writer.stop()
    if not isinstance(place, Placed):
        raise NotForgotten(f"Kafka did not acknowledge the erasure: {place.reason}")
    if not lifted:
        await _until_done(settings, recipient_id)


async def _until_done(settings: Settings, recipient_id: str) -> None:
    deadline = time.monotonic() + DONE_S_MAX
    while True:
        left, marks = await _in_tables(settings, recipient_id)
        if not left and all(marks.values()):
            return
        if time.monotonic() > deadline:
            waits = ", ".join(f"{one.place}: {one.what}" for one in left) or "the marks are missing"
            raise NotForgotten(
                f"the erasure is in Kafka and will be carried out, but is not yet ({waits})"
            )
        await asyncio.sleep(POLL_S)


async def verify(settings: Settings, recipient_id: str) -> Verdict:
    """Looks everywhere. Raises aiokafka's errors."""
    left, marks = await _in_tables(settings, recipient_id)
    in_topics, records_read = await _in_topics(settings, recipient_id)
    return Verdict([*left, *in_topics], marks, records_read)


async def _in_tables(settings: Settings, recipient_id: str) -> tuple[list[Left], dict[str, bool]]:
    """(what tables hold, table -> whether it has the mark)."""
    mark = Pseudonyms(settings.privacy).of(recipient_id).hex()
    states = StateClient(settings.api, settings.engine)
    path = f"/v1/recipients/{quote(recipient_id, safe='')}/kept?mark={mark}"
    left: list[Left] = []
    marks: dict[str, bool] = {}
    await states.start()
    try:
        for table in ("state", "ledger"):
            try:
                if table == "state":
                    said = await states.of_recipient("GET", recipient_id, f"kept?mark={mark}")
                else:
                    said = await states.of_ledger(states.partition(recipient_id), path)
                kept = msgspec.json.decode(said.body, type=KeptOfRecipient)
            except (ProblemError, msgspec.DecodeError) as error:
                left.append(Left(table, f"could not be asked: {error}"))
                marks[table] = False
                continue
            marks[table] = kept.is_marked
            if kept.parts:
                left.append(Left(table, ", ".join(kept.parts)))
    finally:
        await states.stop()
    return left, marks


# ------------------------------------------------------------------------------------ the topics


async def _in_topics(settings: Settings, recipient_id: str) -> tuple[list[Left], int]:
    """(what topics hold, records that were read)."""
    home = partition_of_recipient(recipient_id, settings.kafka.partitions)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        **settings.security,
        enable_auto_commit=False,
        isolation_level="read_uncommitted",
    )
    await consumer.start()
    left: list[Left] = []
    records_read = 0
    try:
        for spec in topics.SPECS:
            if spec.name in WITHOUT_PEOPLE:
                continue
            # Claims are where the hash of the address is, whoever it belongs to.
            is_claims = spec.name == topics.DESTINATION_CLAIMS
            numbers = range(settings.kafka.partitions) if is_claims else [home]
            found, count = await _in_topic(consumer, spec, numbers, recipient_id)
            left += found
            records_read += count
    finally:
        await consumer.stop()
    return left, records_read


async def _in_topic(
    consumer: Any, spec: TopicSpec, numbers: Iterable[int], recipient_id: str
) -> tuple[list[Left], int]:
    places = [TopicPartition(spec.name, number) for number in numbers]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    await consumer.seek_to_beginning(*places)
    is_theirs = _Theirs(spec.name, recipient_id)
    count = held = tombstones = newest_ms = 0
    while any([await consumer.position(place) < ends[place] for place in places]):
        for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
            count += len(records)
            for record in filter(is_theirs, records):
                held += record.value is not None
                tombstones += record.value is None
                newest_ms = max(newest_ms, record.timestamp)
    if not held and not tombstones:
        return [], count
    return [_left_in(spec, held, tombstones, newest_ms)], count


def _left_in(spec: TopicSpec, held: int, tombstones: int, newest_ms: int) -> Left:
    what = f"{held} records" if held else ""
    if tombstones:
        what += f"{' and ' if what else ''}{tombstones} tombstones"
    if spec.cleanup == "compact":
        return Left(
            spec.name,
            f"{what}, until the log is compacted",
            newest_ms + 2 * COMPACTED_WITHIN_HOURS * HOUR_MS,
        )
    kept_ms = None if spec.retention_hours is None else spec.retention_hours * HOUR_MS
    return Left(spec.name, what, None if kept_ms is None else newest_ms + kept_ms)


class _Theirs:
    """Whether a record is about one recipient, by its key; a claim by who it says owns it."""

    def __init__(self, topic: str, recipient_id: str) -> None:
        key = recipient_id.encode()
        is_state = topic == topics.STATE_CHANGELOG
        self._keys = {part + key for part in STATE_PARTS} if is_state else {key}
        self._is_claims = topic == topics.DESTINATION_CLAIMS
        self._recipient_id = recipient_id
        self._codec = Codec()

    def __call__(self, record: Any) -> bool:
        if not self._is_claims:
            return record.key in self._keys
        if record.value is None:
            return False
        try:
            return self._codec.decode_claim(record.value).recipient_id == self._recipient_id
        except DecodeError:
            return False
