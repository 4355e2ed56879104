"""The embedded broker, for real: what it keeps, what it survives, what it says when it cannot."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from streams.local import jars
from streams.local.broker import BrokerError, EmbeddedBroker
from streams.local.broker_config import explain, new_cluster_id
from streams.local.processes import free_port
from tests.conftest import KafkaTopics, RunningBroker
from tests.eventually import eventually_blocking

needs_broker = pytest.mark.broker


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """One that the test may stop and kill; not started."""
    own = EmbeddedBroker(tmp_path / "kafka", port=0)
    yield own
    own.kill()


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def consume(bootstrap: str, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """Everything on partition 0, up to the last stable offset."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=isolation)
    async with consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                values += [record.value for record in records]
        return values


@needs_broker
async def test_records_come_back(broker: RunningBroker, kafka_topics: KafkaTopics) -> None:
    topic = await kafka_topics.create("records")
    await produce(broker.bootstrap, topic, [b"one", b"two"])
    assert await consume(broker.bootstrap, topic) == [b"one", b"two"]


@needs_broker
async def test_transactions_are_seen_whole_or_not_at_all(
    broker: RunningBroker, kafka_topics: KafkaTopics
) -> None:
    topic = await kafka_topics.create("transactions")
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic)
    async with producer:
        async with producer.transaction():
            await producer.send(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
    assert await consume(broker.bootstrap, topic) == [b"committed"]
    assert await consume(broker.bootstrap, topic, "read_uncommitted") == [b"committed", b"aborted"]


@needs_broker
async def test_a_topic_is_not_made_by_naming_it(broker: RunningBroker) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=1000)
    async with producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send_and_wait("nobody-made-this", b"lost")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        assert "nobody-made-this" not in await admin.list_topics()
    finally:
        await admin.close()


@needs_broker
@pytest.mark.slow
async def test_records_and_cluster_id_survive_a_stop_and_a_hard_crash(
    own_broker: EmbeddedBroker,
) -> None:
    async with own_broker:
        await create_topic(own_broker.bootstrap, "kept")
        await produce(own_broker.bootstrap, "kept", [b"before the crash"])
        meta = own_broker.data_folder / "data" / "meta.properties"
        cluster_id = meta.read_text().split("cluster.id=")[1].split()[0]
        pid = own_broker.pid
        own_broker.kill()
        assert pid
        assert not psutil.pid_exists(pid)
        await own_broker.start_async()
        await produce(own_broker.bootstrap, "kept", [b"after the crash"])
    async with own_broker:
        assert await consume(own_broker.bootstrap, "kept") == [
            b"before the crash",
            b"after the crash",
        ]
        assert cluster_id in meta.read_text()
    assert own_broker.pid is None


async def create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


@needs_broker
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of a parent's death")
def test_the_jvm_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from streams.local.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1]), port=0)\n"
        "broker.start()\n"
        "print(broker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout
        jvm = psutil.Process(int(parent.stdout.readline()))
        assert jvm.name() == "java"
        os.kill(parent.pid, signal.SIGKILL)
    eventually_blocking(lambda: not jvm.is_running() or jvm.status() == psutil.STATUS_ZOMBIE)


def test_a_taken_port_is_named_with_its_owner_and_the_way_out(tmp_path: Path) -> None:
    port = free_port()
    code = (
        f"import socket, sys\nserver = socket.create_server(('127.0.0.1', {port}))\n"
        "print('listening', flush=True)\nsys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout
        owner.stdout.readline()
        with pytest.raises(BrokerError) as refused:
            EmbeddedBroker(tmp_path / "kafka", port=port).start()
        owner.kill()
    text = str(refused.value)
    assert f"Port {port} is taken by " in text
    assert f"(pid {owner.pid})" in text
    assert "--port" in text


async def test_a_port_that_only_accepts_connections_is_not_ready() -> None:
    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert not await EmbeddedBroker(Path("unused"), port=port).is_ready()


def test_one_broker_at_a_time_uses_a_data_folder(own_broker: EmbeddedBroker) -> None:
    own_broker.prepare()
    second = EmbeddedBroker(own_broker.data_folder, port=0)
    with pytest.raises(BrokerError, match="Another broker is running on the data folder"):
        second.start()
    own_broker.stop()
    second.prepare()
    second.stop()


def test_a_heap_that_is_too_small_is_said(tmp_path: Path) -> None:
    small = EmbeddedBroker(tmp_path / "kafka", port=0, heap_mb=4)
    with pytest.raises(BrokerError, match="Its heap is too small") as failed:
        small.start()
    assert "ended while it started (exit code 3)" in str(failed.value)
    assert small.pid is None


def test_a_damaged_data_folder_is_said(own_broker: EmbeddedBroker) -> None:
    own_broker.prepare()
    (own_broker.data_folder / "data" / "meta.properties").write_text("nothing that Kafka knows")
    own_broker.stop()
    with pytest.raises(BrokerError, match="The data folder is damaged"):
        own_broker.start()


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("java.io.IOException: No space left on device", "The disk that holds its data folder"),
        ("error='Cannot allocate memory' (errno=12)", "There is not enough memory for its heap"),
        ("org.apache.kafka.common.KafkaException: something new", ""),
    ],
)
def test_a_log_is_explained(log: str, sentence: str) -> None:
    explanation = explain(f"INFO starting\n{log}\nINFO stopping")
    assert explanation.startswith(sentence)
    assert bool(explanation) == bool(sentence)


# --- the jars


def test_every_locked_jar_is_found_and_intact() -> None:
    locked = jars.read_lock()
    assert [jar.path for jar in locked] == jars.resolve()
    assert all(jar.is_intact() for jar in locked)
    assert "kafka-clients" in {jar.artifact for jar in locked if jar.version == jars.KAFKA_VERSION}


def test_a_damaged_jar_is_noticed_and_without_a_network_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = min(jars.read_lock(), key=lambda jar: jar.path.stat().st_size)
    content = bytearray(smallest.path.read_bytes())
    originals = [jar.path for jar in jars.read_lock()]
    repository = Path(str(smallest.path).split(smallest.group.split(".", maxsplit=1)[0])[0])
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    for original in originals:
        copy = tmp_path / original.relative_to(repository)
        copy.parent.mkdir(parents=True)
        shutil.copyfile(original, copy)
    assert smallest.is_intact()
    content[len(content) // 2] ^= 1
    smallest.path.write_bytes(content)
    assert not smallest.is_intact()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    with pytest.raises(jars.JarError, match=f"Cannot fetch .*{smallest.artifact}.*network once"):
        jars.resolve(said.append)
    assert said == [f"Fetching Apache Kafka {jars.KAFKA_VERSION}: file 1 of 1"]


def test_no_cluster_id_looks_like_an_option_to_kafkas_tools() -> None:
    drawn = [new_cluster_id() for _ in range(2_000)]
    assert not [one for one in drawn if one.startswith("-")]
    assert {len(one) for one in drawn} == {22}
