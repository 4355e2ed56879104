"""The broker goes away and comes back; a name is used twice. Slow: run by ``make faults``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams.local.broker import EmbeddedBroker
from tests.conftest import KafkaTopics
from tests.engine.harness import Bench, make_bench
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.xdist_group("engine")]


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedBroker, Bench]]:
    """A broker that the test may stop, with a bench on it."""
    broker = EmbeddedBroker(tmp_path / "kafka", port=0)
    await asyncio.to_thread(broker.start)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    topics = KafkaTopics(admin)
    try:
        async with make_bench(broker.bootstrap, topics, tmp_path) as bench:
            yield broker, bench
    finally:
        await admin.close()
        await asyncio.to_thread(broker.stop)


async def keep_running(bench: Bench, done: asyncio.Event) -> list[int]:
    """What a supervisor does: starts a worker whenever there is none. Returns exit statuses."""
    statuses: list[int] = []
    worker = bench.start()
    while not done.is_set():
        if worker.process.poll() is not None:
            statuses.append(worker.process.returncode)
            worker = bench.start()
        await asyncio.sleep(0.2)
    return statuses


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_comes_back_finds_everything_in_order(
    own: tuple[EmbeddedBroker, Bench], how: signal.Signals
) -> None:
    broker, bench = own
    done = asyncio.Event()
    supervisor = asyncio.create_task(keep_running(bench, done))
    await bench.send(bench.names.normal, 500)
    await settled(bench, 100)
    pid = broker.pid
    assert pid is not None
    os.kill(pid, how)
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    await bench.send(bench.names.normal, 500)
    outputs = await settled(bench, 1_000, 120)
    bench.check_counts(outputs)
    done.set()
    statuses = await supervisor
    assert 0 not in statuses
    assert await bench.workers[-1].stop() == 0
    bench.check_counts(await bench.outputs())
    await bench.check_state()


async def settled(bench: Bench, count: int, deadline_s: float = 60) -> list[Any]:
    """As ``Bench.settled``, but workers may die on the way."""

    async def enough() -> list[Any] | None:
        outputs = await bench.outputs()
        return outputs if len(outputs) >= count else None

    outputs: list[Any] | None = await eventually(enough, deadline_s)
    assert outputs is not None
    return outputs


async def test_a_name_that_is_used_twice_ends_the_first_worker(
    own: tuple[EmbeddedBroker, Bench],
) -> None:
    _, bench = own
    await bench.send(bench.names.normal, 100)
    first = bench.start(name="a")
    await bench.settled(100)
    second = bench.start(name="a", data_folder=str(bench.folder / "other"))
    assert await first.exit_status() not in (0, -9)
    await bench.send(bench.names.normal, 100)
    bench.check_counts(await bench.settled(200))
    assert await second.stop() == 0
