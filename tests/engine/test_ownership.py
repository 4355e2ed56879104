"""Who owns a partition: fencing, zombies, rebalances, standbys."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest

from streams.engine.api import Output
from streams.engine.crash_points import CrashPoints
from streams.engine.roles import Fenced
from streams.engine.settings import EngineSettings
from streams.engine.transaction import PartitionProducer
from tests.engine.harness import Bench, Worker, read_all
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]


def owned(worker: Worker) -> list[int]:
    """Partitions of the worker's latest assignment, from its log."""
    lines = re.findall(r"owns \[([\d, ]*)\]", worker.log())
    return [int(number) for number in lines[-1].split(",") if number.strip()] if lines else []


def restored(worker: Worker) -> dict[int, int]:
    """Partition -> changelog records of its latest restore, from the log."""
    found = re.findall(r"partition (\d+): restored (\d+) changelog records", worker.log())
    return {int(partition): int(records) for partition, records in found}


async def test_a_new_owner_fences_the_old_one(broker: Any, kafka_topics: Any) -> None:
    topic = await kafka_topics.create("out")
    changelog = await kafka_topics.create("changelog")
    settings = EngineSettings(bootstrap=broker.bootstrap, application=topic, partitions=1)
    old = PartitionProducer("decide", 0, settings, CrashPoints(""))
    new = PartitionProducer("decide", 0, settings, CrashPoints(""))
    await old.start()
    await old.write([Output(topic, b"k", b"old")], changelog, [(b"k", b"1")])
    await new.start()
    with pytest.raises(Fenced):
        await old.write([Output(topic, b"k", b"zombie")], changelog, [(b"k", b"2")])
    next_offset = await new.write([Output(topic, b"k", b"new")], changelog, [(b"k", b"3")])
    await old.stop()
    await new.stop()
    values = [record.value for record in await read_all(settings, topic)]
    assert values == [b"old", b"new"]
    last = (await read_all(settings, changelog))[-1]
    # The commit marker is between the last record and the next one.
    assert (last.value, last.offset + 2) == (b"3", next_offset)


async def test_a_zombie_changes_nothing(bench: Bench) -> None:
    await bench.send(bench.names.normal, 100)
    zombie = bench.start(name="a")
    await bench.settled(100)
    os.kill(zombie.process.pid, signal.SIGSTOP)
    await bench.send(bench.names.normal, 100)
    heir = bench.start(name="b")
    await bench.settled(200, deadline_s=60)
    os.kill(zombie.process.pid, signal.SIGCONT)
    await bench.send(bench.names.normal, 100)
    bench.check_counts(await bench.settled(300, deadline_s=60))
    await heir.stop()
    zombie.kill()
    bench.check_counts(await bench.outputs())
    await bench.check_state()


@pytest.mark.parametrize("bench", [{"partitions": 4}], indirect=True)
async def test_workers_share_and_hand_back(bench: Bench) -> None:
    await bench.send(bench.names.normal, 200)
    first = bench.start(name="a")
    await bench.settled(200)
    second = bench.start(name="b")
    await eventually(lambda: len(owned(first)) == len(owned(second)) == 2, 40)
    assert sorted(owned(first) + owned(second)) == [0, 1, 2, 3]
    await bench.send(bench.names.normal, 200)
    await bench.settled(400)
    assert await second.stop() == 0
    bench.workers.pop()
    await bench.send(bench.names.normal, 200)
    bench.check_counts(await bench.settled(600))
    assert await first.stop() == 0
    bench.check_counts(await bench.outputs())
    await bench.check_state()


@pytest.mark.parametrize("bench", [{"partitions": 4, "standby_replicas": 1}], indirect=True)
async def test_a_standby_takes_over_from_where_it_was(bench: Bench) -> None:
    first = bench.start(name="a")
    second = bench.start(name="b")
    await eventually(lambda: len(owned(first)) == len(owned(second)) == 2, 40)
    await bench.send(bench.names.normal, 2_000, keys=500)
    await bench.settled(2_000)
    mine = owned(second)
    second.kill()
    bench.workers.remove(second)
    await eventually(lambda: len(owned(first)) == 4, 60)
    await bench.send(bench.names.normal, 100)
    bench.check_counts(await bench.settled(2_100))
    # A cold start would have read some 500 records a partition.
    assert all(restored(first)[partition] < 50 for partition in mine), restored(first)
    assert await first.stop() == 0
