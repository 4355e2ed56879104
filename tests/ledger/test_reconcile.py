"""The audit against a real broker: transactions, aborts, forwarding, ends, owners in the group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streams import topics
from streams.core import ids
from streams.core.model import Entry, Source
from streams.engine.settings import EngineSettings
from streams.engine.topics_admin import create_topics
from streams.ledger.directory import find_ledger, ledger_group
from streams.ledger.log_snapshot import REST, LogSnapshot, ReconcileError
from streams.ledger.reconcile import read_received, reconcile
from streams.ledger.report import Report
from streams.ledger.settings import ReconcileSettings
from streams.local.broker import EmbeddedBroker
from streams.partitioning import partition_of_recipient
from streams.web.worker_directory import WorkerDirectory
from tests.ledger.build import CODEC, T0
from tests.ledger.kafka_books import PARTITIONS, KafkaBooks, encode_event

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("ledger-broker")]
SETTINGS = ReconcileSettings(stall_ms_max=20_000)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own: the audit is about everything on a cluster."""
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka"), port=0) as broker:
        asyncio.run(create_topics(broker.bootstrap, topics.SPECS, PARTITIONS, 1, True))
        yield broker.bootstrap


@pytest.fixture
async def books(cluster: str, tmp_path: Path) -> AsyncIterator[KafkaBooks]:
    async with KafkaBooks(cluster, tmp_path / "received.jsonl") as made:
        yield made


async def test_the_books_of_a_cluster(books: KafkaBooks, cluster: str) -> None:
    """One story, because one cluster has one history: each step adds to the books before."""
    files = [books.received]
    await books.append(1_000)
    report = await reconcile(cluster, SETTINGS, files)
    assert report.problems == []
    assert (report.accepted, report.remainder, report.exit_status) == (1_000, 0, 0)
    assert report.states == {"delivered": 250, "suppressed": 250, "duplicate": 250}
    assert report.open == {"routed": 250}
    assert report.received == 250

    await books.abort()
    await books.append(100)
    await books.abort()
    report = await reconcile(cluster, SETTINGS, files)
    assert (report.accepted, report.adds_up) == (1_100, True), report.problems

    await _forwarded(books)
    await _garbage(books)
    report = await reconcile(cluster, SETTINGS, files)
    assert (report.accepted, report.forwarded, report.adds_up) == (1_102, 1, True), report.problems
    assert report.states["dead_lettered"] == 1
    assert report.dead_letters == {"undecodable": 1}

    await books.plain.send_and_wait(topics.EVENTS_BULK, key=b"new", partition=0, value=b"x")
    report = await reconcile(cluster, SETTINGS, files)
    assert (report.open["deciding"], report.adds_up) == (1, True)
    await _commit(cluster, {TopicPartition(topics.EVENTS_BULK, 0): OffsetAndMetadata(1, "")})
    report = await reconcile(cluster, SETTINGS, files)
    assert (report.remainder, report.exit_status) == (1, 1)
    assert "nothing is known of events.bulk/0/0" in report.problems[0]
    assert report.totals()["accepted"] == 1_103


async def _forwarded(books: KafkaBooks) -> None:
    """An event on a wrong partition, its copy on the right one, and the verdict on that."""
    right = partition_of_recipient("stray", PARTITIONS)
    wrong = (right + 1) % PARTITIONS
    value = encode_event("stray-1", "stray")
    first = await books.plain.send_and_wait(
        topics.EVENTS_CRITICAL, key=b"stray", partition=wrong, value=value
    )
    origin = f"{topics.EVENTS_CRITICAL}/{wrong}/{first.offset}".encode()
    second = await books.plain.send_and_wait(
        topics.EVENTS_CRITICAL, key=b"stray", partition=right, value=value,
        headers=[("flowstate-forwarded", origin)],
    )  # fmt: skip
    subject_id = ids.to_id(right, ids.event_digest("stray-1", "stray"))
    source = Source(topics.EVENTS_CRITICAL, right, second.offset, T0)
    entry = Entry(subject_id, "expired", "expired", "expire", "message", "stray-1", source=source)
    async with books.transactional.transaction():
        decided = CODEC.encode_decision("stray", T0, "v1", [entry])
        await books.transactional.send_and_wait(
            topics.DECISIONS, key=b"stray", partition=right, value=decided
        )


async def _garbage(books: KafkaBooks) -> None:
    """An event that cannot be read, and its dead letter."""
    placed = await books.plain.send_and_wait(
        topics.EVENTS_CRITICAL, key=b"g", partition=2, value=b"\x07garbage"
    )
    letter = {
        "recipient_id": None, "topic": topics.EVENTS_CRITICAL, "partition": 2,
        "offset": placed.offset, "timestamp_ms": T0, "key": b"g", "value": b"\x07garbage",
        "headers": [], "reason": "undecodable", "detail": "", "delivery": None, "dead_at_ms": T0,
    }  # fmt: skip
    value = CODEC.encode_dead_letter(letter)
    await books.plain.send_and_wait(topics.DEAD_LETTERS, key=b"g", partition=2, value=value)


async def _commit(
    cluster: str, offsets: dict[TopicPartition, OffsetAndMetadata], group: str = "flowstate-decide"
) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=cluster, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(list(offsets))
    await consumer.commit(offsets)
    await consumer.stop()


async def test_owners_are_read_from_the_group(cluster: str) -> None:
    offsets = {
        TopicPartition(topics.DECISIONS, 0): OffsetAndMetadata(1, '{"url":"http://a:1"}'),
        TopicPartition(topics.DECISIONS, 2): OffsetAndMetadata(1, '{"url":"http://b:2"}'),
        TopicPartition(topics.OUTCOMES, 1): OffsetAndMetadata(1, '{"url":"http://c:3"}'),
    }
    await _commit(cluster, offsets, "owned-ledger")
    engine = EngineSettings(bootstrap=cluster, application="owned")
    directory = WorkerDirectory(engine, ledger_group("owned"), topics.DECISIONS, timeout_ms=5_000)
    assert await directory.all() == {0: "http://a:1", 2: "http://b:2"}
    await directory.stop()
    assert await find_ledger(cluster, "owned") in ("http://a:1", "http://b:2")
    assert await find_ledger(cluster, "nobody") is None
    assert await find_ledger("127.0.0.1:1", "owned") is None


async def test_a_file_that_is_not_there_is_said_in_words(cluster: str) -> None:
    with pytest.raises(ReconcileError, match="cannot read /nowhere"):
        await reconcile(cluster, SETTINGS, [Path("/nowhere/received.jsonl")])


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "there is no topic events.critical, "),
        ({**dict.fromkeys((*topics.EVENTS, *REST), 4), topics.OUTCOMES: 3}, "different numbers"),
    ],
)
async def test_topics_that_cannot_be_audited_are_refused(found: dict[str, int], why: str) -> None:
    """Nothing found must never look like books that balance."""

    class Admin:
        async def describe_topics(self) -> list[dict[str, Any]]:
            return [{"topic": name, "partitions": [{}] * n} for name, n in found.items()]

    with pytest.raises(ReconcileError, match=why):
        await LogSnapshot("nowhere:1", SETTINGS)._find_partitions(Admin())


def test_a_line_cut_by_a_kill_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "received.jsonl"
    file.write_text('{"delivery_id":"a"}\n{"delivery_id":"a"}\n{"delivery')
    assert read_received([file]) == {"a": 2}
    file.write_text('{"delivery\n')
    with pytest.raises(ReconcileError, match="line 1"):
        read_received([file])


def test_an_empty_report_adds_up() -> None:
    assert Report().adds_up
