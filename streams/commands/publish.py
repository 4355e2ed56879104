"""``flowstate publish``: JSON lines in, Avro records out, acknowledged by all replicas.

Every line is one record of the topic's type. A line that is not valid, by its schema or by the
rules that it will meet later (``record_check.py``), is reported by its number and not sent; the
others are sent, in order, by an idempotent producer that waits for every acknowledgement. What is
sent twice (because a file was mended and published again) is recognised by its event id and
changes nothing.

The partition is computed as Java's producer does it (murmur2 of the key), so that a record lands
where the recipient's state is.

Invariants: the number of records on their way is bounded; the report counts every line once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams import topics
from streams.codec import Codec
from streams.commands.avro_check import problems_of
from streams.commands.failures import CommandError
from streams.commands.kafka import partition_count
from streams.commands.record_check import Check, nothing_more
from streams.partitioning import partition_for

IN_FLIGHT_MAX = 1_000
"""Records sent and not yet acknowledged."""
CHUNK_BYTES = 65_536
LINE_BYTES_MAX = 1 << 20

KEY_FIELDS = {"kill_switch": "scope", "claim": "address_hash"}
"""Record types that are keyed by something else than ``recipient_id``."""


class Line(msgspec.Struct, frozen=True):
    """A line of input: number from 1, and the record or what is wrong with it."""

    number: int
    value: dict[str, Any]
    problems: list[str]


class PublishReport(msgspec.Struct):
    """What became of the lines."""

    accepted: int = 0
    refused: int = 0
    """Lines that are not valid, and were not sent."""
    failed: int = 0
    """Valid lines that Kafka did not acknowledge."""


Say = Callable[[str], None]
"""Takes a sentence about one line."""


def schema_of(topic: str) -> str:
    """Record type of a topic. Raises ``CommandError`` for topics that nobody should write."""
    spec = topics.BY_NAME.get(topic)
    if spec is None:
        raise CommandError(
            f"there is no topic {topic!r}", f"Topics are: {', '.join(sorted(topics.BY_NAME))}."
        )
    if spec.schema is None:
        raise CommandError(f"{topic} has no record type: only the engine writes to it")
    return spec.schema


def arrivals(file: BinaryIO) -> Iterator[list[bytes]]:
    """Whole lines as they arrive: as many at once as a file has, one by one from a slow pipe."""
    rest = b""
    while chunk := file.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise CommandError(f"a line is longer than {LINE_BYTES_MAX} bytes: is this JSON lines?")
        yield whole
    if rest:
        yield [rest]


def read_lines(
    lines: Iterable[bytes], schema: Any, now_ms: int, first: int = 1, check: Check = nothing_more
) -> Iterator[Line]:
    """Parses and checks JSON lines; blank ones are skipped and keep their number.

    A required time (``created_at_ms``...) that is left out is now: who types an event by hand
    means now.
    """
    required_times = [
        field["name"]
        for field in schema["fields"]
        if field["name"].endswith("_at_ms") and "default" not in field
    ]
    for number, text in enumerate(lines, start=first):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield Line(number, {}, [f"not JSON: {error}"])
            continue
        if not isinstance(value, dict):
            yield Line(number, {}, ['expected an object, as in {"event_id": ...}'])
            continue
        value = {**dict.fromkeys(required_times, now_ms), **value}
        yield Line(number, value, problems_of(schema, value) or check(value))


def key_of(record_name: str, value: Mapping[str, Any]) -> bytes:
    """Key of a record: the recipient's id, except for the few that are about something else."""
    return str(value[KEY_FIELDS.get(record_name, "recipient_id")]).encode()


async def publish(
    topic: str,
    file: BinaryIO,
    client: Mapping[str, Any],
    say: Say,
    now_ms: int,
    check_only: bool = False,
    check: Check = nothing_more,
) -> PublishReport:
    """Publishes the lines of ``file`` to ``topic``; ``client`` is the aiokafka connection.

    Bad and unacknowledged lines are told to ``say`` by number. Raises aiokafka's errors when the
    cluster cannot be reached at all.
    """
    record_name = schema_of(topic)
    codec = Codec(None)
    schema = codec.contracts.current[record_name].schema
    report = PublishReport()
    if check_only:
        everything = itertools.chain.from_iterable(arrivals(file))
        for line in read_lines(everything, schema, now_ms, check=check):
            if not _refused(line, report, say):
                report.accepted += 1
        return report
    partitions = await partition_count(topic, client)
    producer = AIOKafkaProducer(
        **client, enable_idempotence=True, acks="all", compression_type="lz4", linger_ms=5
    )
    await producer.start()
    try:
        waiting: list[tuple[int, asyncio.Future[Any]]] = []
        batches, number = arrivals(file), 1
        # A pipe may be slow: waiting for its next line must not hold up what is being sent.
        while (texts := await asyncio.to_thread(next, batches, None)) is not None:
            for line in read_lines(texts, schema, now_ms, number, check):
                if _refused(line, report, say):
                    continue
                key = key_of(record_name, line.value)
                value = codec.encode(record_name, line.value)
                partition = 0 if partitions == 1 else partition_for(key, partitions)
                waiting.append((line.number, await producer.send(topic, value, key, partition)))
                if len(waiting) >= IN_FLIGHT_MAX:
                    await _settle(waiting, report, say)
            number += len(texts)
            await _settle(waiting, report, say)
    finally:
        await producer.stop()
    return report


async def _settle(
    waiting: list[tuple[int, asyncio.Future[Any]]], report: PublishReport, say: Say
) -> None:
    """Waits for everything on its way and counts it; the list is empty afterwards."""
    for number, sent in waiting:
        try:
            await sent
        except KafkaError as error:
            report.failed += 1
            say(f"line {number}: not acknowledged: {error}")
        else:
            report.accepted += 1
    waiting.clear()


def _refused(line: Line, report: PublishReport, say: Say) -> bool:
    """Tells what is wrong with a line and counts it; false for a right one."""
    for problem in line.problems:
        say(f"line {line.number}: {problem}")
    report.refused += bool(line.problems)
    return bool(line.problems)
