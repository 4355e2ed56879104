"""The writer against a real broker that comes and goes."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.engine.log_writer import LogWriter, NotWritten, OutRecord, Placed, TopicsWrong
from streams.engine.settings import EngineSettings
from streams.local.broker import EmbeddedBroker
from tests.conftest import KafkaTopics, RunningBroker
from tests.eventually import eventually

pytestmark = pytest.mark.broker


def settings(bootstrap: str, partitions: int = 2) -> EngineSettings:
    return EngineSettings(bootstrap=bootstrap, partitions=partitions)


def record(topic: str, value: bytes = b"v", partition: int = 0) -> OutRecord:
    return OutRecord(topic, partition, b"k", value, [("h", b"1")])


async def values(bootstrap: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[bytes] = []
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [each.value for each in records]
        return found
    finally:
        await consumer.stop()


async def test_acknowledged_records_are_where_it_says(
    broker: RunningBroker, kafka_topics: KafkaTopics
) -> None:
    topic = await kafka_topics.create("events", partitions=2)
    writer = LogWriter(settings(broker.bootstrap), [topic], "test", ack_ms_max=5_000)
    await writer.start()
    written = await writer.write([record(topic, b"%d" % n, n % 2) for n in range(100)])
    await writer.stop()
    assert written[:4] == [Placed(topic, n % 2, n // 2) for n in range(4)]
    assert await values(broker.bootstrap, topic) == [b"%d" % n for n in range(0, 100, 2)]


async def test_a_record_that_never_fits_is_told_from_the_others(
    broker: RunningBroker, kafka_topics: KafkaTopics
) -> None:
    topic = await kafka_topics.create("events", partitions=2, config={"max.message.bytes": "2000"})
    writer = LogWriter(settings(broker.bootstrap), [topic], "test", ack_ms_max=5_000)
    await writer.start()
    noise = hashlib.shake_256(b"noise").digest(20_000)  # does not compress
    (large,) = await writer.write([record(topic, noise, 1)])
    (small,) = await writer.write([record(topic)])
    await writer.stop()
    assert isinstance(large, NotWritten)
    assert large.too_large
    assert small == Placed(topic, 0, 0)


async def test_a_missing_topic_or_another_number_of_partitions_stops_the_start(
    broker: RunningBroker, kafka_topics: KafkaTopics
) -> None:
    topic = await kafka_topics.create("events", partitions=2)
    for engine, name in ((settings(broker.bootstrap, 4), topic), (settings(broker.bootstrap), "x")):
        writer = LogWriter(engine, [name], "test", ack_ms_max=1_000)
        with pytest.raises(TopicsWrong):
            await writer.start()


async def test_without_kafka_it_starts_and_refuses_at_once() -> None:
    writer = LogWriter(settings("127.0.0.1:1"), ["t"], "test", ack_ms_max=3_000)
    await writer.start()
    began = time.monotonic()
    (refused,) = await writer.write([record("t")])
    assert time.monotonic() - began < 0.1
    assert isinstance(refused, NotWritten)
    await writer.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path / "kafka", port=0)
    broker.start()
    yield broker
    broker.stop()


def java_of(broker: EmbeddedBroker) -> psutil.Process:
    """The process that listens on the broker's port."""
    return next(
        psutil.Process(each.pid)
        for each in psutil.net_connections("tcp")
        if each.laddr and each.laddr.port == broker.port and each.status == "LISTEN" and each.pid
    )


@pytest.mark.slow
async def test_what_was_refused_never_appears_and_it_recovers_by_itself(
    own_broker: EmbeddedBroker,
) -> None:
    bootstrap = own_broker.bootstrap
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("t", 2, 1)])
    await admin.close()
    writer = LogWriter(settings(bootstrap), ["t"], "test", ack_ms_max=1_000, probe_ms=300)
    await eventually(lambda: _starts(writer))
    await eventually(lambda: _is_written(writer, b"before"))

    # A broker that hangs: nothing is acknowledged, and nothing says so.
    java = java_of(own_broker)
    java.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    on_the_wire = await writer.write([record("t", b"hung")])
    assert time.monotonic() - began < 5
    began = time.monotonic()
    refused = await asyncio.gather(*(writer.write([record("t", b"away")]) for _ in range(50)))
    assert time.monotonic() - began < 0.8  # below the time that one write may wait
    assert all(isinstance(place, NotWritten) for (place,) in (on_the_wire, *refused))
    java.send_signal(signal.SIGCONT)
    await eventually(lambda: writer.is_up)

    # A broker that is gone, and comes back.
    await own_broker.stop_async()
    await eventually(lambda: not writer.is_up)
    assert isinstance((await writer.write([record("t", b"gone")]))[0], NotWritten)
    await own_broker.start_async()
    await eventually(lambda: _is_written(writer, b"after"))
    await writer.stop()
    found = await values(bootstrap, "t")
    assert set(found) - {b"hung"} == {b"before", b"after"}
    assert found.count(b"hung") <= 1  # it was on the wire when the broker hung


async def _is_written(writer: LogWriter, value: bytes) -> bool:
    """New topics, and brokers that have just started, have no leaders for a moment."""
    (place,) = await writer.write([record("t", value)])
    return isinstance(place, Placed)


async def _starts(writer: LogWriter) -> bool:
    try:
        await writer.start()
    except TopicsWrong:
        return False
    return True
