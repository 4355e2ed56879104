"""A decide worker, as a process on a real Kafka, whose catalogue is changed while events come.

What it wrote is then decided once more from its inputs and its fence records: every batch under
the version that its fence names, byte for byte.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import topics
from streams.codec import Codec
from streams.core.policy import Policy
from streams.engine.topics_admin import create_topics
from streams.local.broker import EmbeddedBroker
from streams.local.processes import ManagedProcess
from streams.partitioning import partition_for
from streams.settings import load
from streams.simulation.evidence import Allowance, Evidence
from streams.simulation.replay import COMPARED, INPUTS, Replay
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("catalogue")]

PARTITIONS = 2
RECIPIENTS = [f"recipient-{number}" for number in range(8)]
FILE = """
data_folder = "{folder}/state"
catalogue_poll = "50ms"
[kafka]
bootstrap = "{bootstrap}"
partitions = 2
[categories.message]
{message}
[categories.message.digest]
mode = "window"
window = "1s"
"""
ON = 'channels = ["push"]'
OFF = 'channels = ["push"]\ndefault_on = false'
WRONG = 'chanels = ["push"]'
CODEC = Codec()


class World:
    """The worker, what it is configured with, and a producer."""

    def __init__(self, folder: Path, bootstrap: str, producer: AIOKafkaProducer) -> None:
        self.file, self.bootstrap, self.producer = folder / "flowstate.toml", bootstrap, producer
        self.numbers = itertools.count(1)
        self.sent = 0
        self.write(ON)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        argv = [sys.executable, "-m", "streams.cli", "worker", "decide", "--config", str(self.file)]
        environment = {"FLOWSTATE_ENGINE__WEB_PORT": str(port)}
        self.process = ManagedProcess(argv, folder / "decide.log", environment)

    def write(self, message: str) -> Policy | None:
        """Changes the file; its policy, if it is a right one."""
        text = FILE.format(folder=self.file.parent, bootstrap=self.bootstrap, message=message)
        self.file.write_text(text)
        return None if message == WRONG else load(self.file, environment={}).policy

    async def sends(self, count: int) -> None:
        """So many events, to everybody in turn."""
        for recipient_id in itertools.islice(itertools.cycle(RECIPIENTS), count):
            event = {
                "event_id": f"event-{next(self.numbers)}", "recipient_id": recipient_id,
                "category": "message", "created_at_ms": 1,
            }  # fmt: skip
            await self.write_record(topics.EVENTS_NORMAL, "event", recipient_id, event)
            self.sent += 1

    async def write_record(
        self, topic: str, record: str, recipient_id: str, value: Mapping[str, Any]
    ) -> None:
        key = recipient_id.encode()
        encoded = CODEC.encode(record, value)
        partition = partition_for(key, PARTITIONS)
        await self.producer.send_and_wait(topic, encoded, key, partition)

    async def metric(self, name: str) -> str | None:
        """Value of a metric; ``None`` while there is none."""
        assert self.process.returncode is None, self.process.output()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(self.url + "/metrics") as got,
            ):
                lines = (await got.text()).splitlines()
        except aiohttp.ClientError:
            return None
        return next((line.split()[-1] for line in lines if line.startswith(name)), None)

    async def in_force(self, policy: Policy | None) -> None:
        assert policy is not None
        name = f'flowstate_catalogue{{version="{policy.version}"}}'

        async def is_in_force() -> bool:
            return await self.metric(name) == "1.0"

        await eventually(is_in_force, 60)

    async def all_decided(self) -> None:
        """Every event so far has an entry of its own."""

        async def is_decided() -> bool:
            found = await self.records((topics.DECISIONS,))
            told = {
                entry["event_id"]
                for record in itertools.chain.from_iterable(found.values())
                for entry in CODEC.decode("decision", record.value)["entries"]
            }
            return len(told - {None}) == self.sent

        await eventually(is_decided, 60)

    async def records(self, names: tuple[str, ...]) -> dict[tuple[str, int], list[Any]]:
        """Committed records of topics, to their ends."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, isolation_level="read_committed",
            enable_auto_commit=False,
        )  # fmt: skip
        await consumer.start()
        found: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
        try:
            places = [TopicPartition(name, n) for name in names for n in range(PARTITIONS)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp.topic, tp.partition] += records
        finally:
            await consumer.stop()
        return found


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = EmbeddedBroker(tmp_path_factory.mktemp("kafka"), port=0)
    broker.start()
    yield broker.bootstrap
    broker.stop()


@pytest.fixture
async def world(kafka: str, tmp_path: Path) -> AsyncIterator[World]:
    await create_topics(kafka, topics.SPECS, PARTITIONS, 1, False, {})
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        made = World(tmp_path, kafka, producer)
        try:
            yield made
        finally:
            made.process.kill()


async def test_a_running_worker_takes_a_changed_catalogue_between_two_batches(
    world: World,
) -> None:
    first = world.write(ON)
    await world.in_force(first)
    for recipient_id in RECIPIENTS:
        address = {
            "recipient_id": recipient_id, "destination_id": "phone", "kind": "fcm",
            "address": f"token-{recipient_id}", "at_ms": 1,
        }  # fmt: skip
        await world.write_record(topics.DESTINATIONS, "destination", recipient_id, address)
    await world.sends(80)
    await world.all_decided()
    flow = asyncio.create_task(world.sends(400))  # The change comes in the middle of these.
    await eventually(lambda: world.sent > 200)
    second = world.write(OFF)
    await world.in_force(second)
    await flow
    await world.sends(40)
    await world.all_decided()

    world.write(WRONG)
    world.process.signal(signal.SIGHUP)

    async def is_refused() -> bool:
        return await world.metric("flowstate_catalogue_refused") == "1.0"

    await eventually(is_refused, 30)
    await world.sends(40)
    await world.all_decided()
    assert await world.metric("flowstate_catalogue_reloads_total") == "1.0"
    assert 'did you mean "channels"' in world.process.output()
    world.process.signal(signal.SIGTERM)
    assert await asyncio.wait_for(world.process.wait(), 30) == 0, world.process.output()

    assert first is not None
    assert second is not None
    await check(world, first, second)


async def check(world: World, first: Policy, second: Policy) -> None:
    """Every batch has one version, the second never before the first, and can be repeated."""
    records = await world.records((*INPUTS, *COMPARED, topics.STATE_CHANGELOG))
    for partition in range(PARTITIONS):
        decisions = [
            CODEC.decode("decision", record.value)
            for record in records[topics.DECISIONS, partition]
        ]
        versions = [decision["policy_version"] for decision in decisions]
        assert set(versions) == {first.version, second.version}
        assert versions == sorted(versions, key=[first.version, second.version].index)
        for decision in decisions:
            for entry in decision["entries"]:
                if decision["policy_version"] == second.version:
                    assert entry["reason"] in ("opted_out", "digest_due", "digest_empty"), entry

        def differences(policies: Mapping[str, Policy], number: int = partition) -> list[str]:
            evidence = Evidence(
                records, {}, [], first, CODEC, PARTITIONS, Allowance(0, 0), policies
            )
            changelog = records[topics.STATE_CHANGELOG, number]
            return list(Replay(evidence, number, changelog, 1_000).differences())

        assert differences({first.version: first, second.version: second}) == []
        assert differences({first.version: first, second.version: first}) != []
        (said, *_) = differences({first.version: first})
        assert f"under the policy {second.version!r}, which nobody knows" in said
