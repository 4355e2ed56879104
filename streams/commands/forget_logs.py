"""What Kafka's logs still hold of a recipient: every topic of ours, read to its end.

Records are theirs by their key; in ``destination-claims`` and among the claims of the state's
changelog, which are where the hash of an address is, by who they say owns it.

Invariants: every partition that could hold a record is read from its beginning to where it ended;
what no later record has replaced in a compacted topic is not said to go by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import tables, topics
from streams.codec import Codec, DecodeError
from streams.engine.topics_admin import COMPACTED_WITHIN_HOURS, HOUR_MS
from streams.partitioning import partition_of_recipient
from streams.settings import Settings
from streams.topics import TopicSpec

FETCH_MS = 500
STATE_PARTS = (tables.PROFILE, tables.MOVING, tables.ACTIVITY)
WITHOUT_PEOPLE = frozenset(
    {topics.KILL_SWITCH, topics.TICKS, topics.LOOKS, topics.ERASURES, topics.LEDGER_HOURS}
)
"""Topics that name nobody: in ``looks`` and ``erasures`` people are keyed hashes."""
WITH_CLAIMS = frozenset({topics.DESTINATION_CLAIMS, topics.STATE_CHANGELOG})


class Left(msgspec.Struct, frozen=True):
    """What one place still holds."""

    place: str
    """``state`` and ``ledger`` are tables; anything else is a topic."""
    what: str
    """Parts of a table, or how many records; why, when it could not be asked."""
    gone_by_ms: int | None = None
    """When it is gone at the latest; ``None``: not by itself."""


class LogsRead(msgspec.Struct):
    """What was found in the logs."""

    left: list[Left] = []
    records: int = 0
    """How many were read."""
    claims: dict[int, set[str]] = {}
    """Partition -> hashes of the addresses that were ever said to be theirs."""
    standing: dict[int, set[str]] = {}
    """Those for which ``destination-claims`` says so last."""


async def read_logs(
    settings: Settings, recipient_id: str, specs: Iterable[TopicSpec] = topics.SPECS
) -> LogsRead:
    """Looks through topics. Raises aiokafka's errors."""
    home = partition_of_recipient(recipient_id, settings.kafka.partitions)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        **settings.security,
        enable_auto_commit=False,
        # The default would be "latest": the reset that follows assign() may be answered after our
        # seek, and then a topic that is full seems empty.
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
    )
    found = LogsRead()
    await consumer.start()
    try:
        for spec in specs:
            if spec.name not in WITHOUT_PEOPLE:
                everywhere = range(settings.kafka.partitions)
                numbers = everywhere if spec.name in WITH_CLAIMS else [home]
                await _read_topic(consumer, TopicReading(spec, recipient_id, found), numbers)
    finally:
        await consumer.stop()
    return found


async def _read_topic(consumer: Any, topic: TopicReading, numbers: Iterable[int]) -> None:
    places = [TopicPartition(topic.spec.name, number) for number in numbers]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    for place, offset in (await consumer.beginning_offsets(places)).items():
        consumer.seek(place, offset)
    while any([await consumer.position(place) < ends[place] for place in places]):
        for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
            for record in records:
                topic.take(record)
    topic.close()


class TopicReading:
    """One topic while it is read."""

    def __init__(self, spec: TopicSpec, recipient_id: str, found: LogsRead) -> None:
        self.spec = spec
        self._found = found
        self._recipient_id = recipient_id
        key = recipient_id.encode()
        is_state = spec.name == topics.STATE_CHANGELOG
        self._keys = {part + key for part in STATE_PARTS} if is_state else {key}
        self._claim_prefix = tables.CLAIM if is_state else b""
        self._codec = Codec()
        self._held = self._tombstones = self._newest_ms = 0
        self._in_force: set[tuple[int, bytes]] = set()
        """Keys whose last record is theirs and has a value."""

    def take(self, record: Any) -> None:
        """Looks at one record."""
        self._found.records += 1
        place = (record.partition, record.key or b"")
        if record.key in self._keys:
            self._count(record, place)
            return
        if self.spec.name not in WITH_CLAIMS or not place[1].startswith(self._claim_prefix):
            return
        if record.value is not None and self._is_claim_of_theirs(record.value):
            self._count(record, place)
            name = place[1].removeprefix(self._claim_prefix).decode(errors="replace")
            self._found.claims.setdefault(record.partition, set()).add(name)
        else:
            # Somebody else's now, or nobody's: a hash of an address alone names no one.
            self._in_force.discard(place)

    def _count(self, record: Any, place: tuple[int, bytes]) -> None:
        self._newest_ms = max(self._newest_ms, record.timestamp)
        if record.value is None:
            self._tombstones += 1
            self._in_force.discard(place)
        else:
            self._held += 1
            self._in_force.add(place)

    def _is_claim_of_theirs(self, value: bytes) -> bool:
        try:
            return self._codec.decode_claim(value).recipient_id == self._recipient_id
        except DecodeError:
            return False

    def close(self) -> None:
        """Says what was found."""
        spec = self.spec
        if spec.name == topics.DESTINATION_CLAIMS:
            for partition, key in self._in_force:
                name = key.decode(errors="replace")
                self._found.standing.setdefault(partition, set()).add(name)
        if not self._held and not self._tombstones:
            return
        what = f"{self._held} records" if self._held else ""
        if self._tombstones:
            what += f"{' and ' if what else ''}{self._tombstones} tombstones"
        kept_hours = spec.retention_hours
        if spec.cleanup == "compact":
            kept_hours = 2 * COMPACTED_WITHIN_HOURS
            what += ", until the log is compacted"
            if self._in_force:
                kept_hours = None
                what += f" ({len(self._in_force)} in force, which do not go by themselves)"
        gone_by_ms = None if kept_hours is None else self._newest_ms + kept_hours * HOUR_MS
        self._found.left.append(Left(spec.name, what, gone_by_ms))
