"""Runners start when they are owned, stop before they are let go, and a failure is never hidden."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from streams.engine.context import WorkerParts
from streams.engine.offsets import OffsetCommitter
from streams.engine.roles import Committed, Fenced, Lane, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.supervisor import Supervisor
from tests.engine.test_parts import tp
from tests.eventually import eventually


class Runner:
    """Writes down what is asked of it."""

    def __init__(self, partition: int, log: list[str], how: str = "") -> None:
        self.partition = partition
        self.log = log
        self.how = how
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        self.log.append(f"start {self.partition}")
        if self.how == "start fails":
            raise LookupError("a bug")
        if self.how == "start hangs":
            await asyncio.Event().wait()

    async def run(self) -> None:
        if self.how == "run fails":
            raise LookupError("a bug")
        await self.stopping.wait()
        self.log.append(f"ran {self.partition}")

    async def stop(self, graceful: bool) -> None:
        self.stopping.set()
        if self.how == "stop hangs":
            await asyncio.Event().wait()
        if self.how == "stop fenced":
            raise Fenced("taken")
        await asyncio.sleep(0)
        self.log.append(f"stop {self.partition} {'graceful' if graceful else 'at once'}")


class Bench:
    """A supervisor over runners that write down."""

    def __init__(self, how: str = "", **changes: Any) -> None:
        self.log: list[str] = []
        self.errors: list[BaseException] = []
        settings = EngineSettings(bootstrap="nowhere", revoke_ms_max=100, **changes)
        role = RoleSpec(
            name="deliver",
            lanes=(Lane("all", ("t",), 10),),
            runner_factory=lambda partition, _: Runner(partition, self.log, how),
            standby_factory=lambda partition, _: Runner(partition + 100, self.log),
        )
        worker = WorkerParts(role, settings, None, self.errors.append)  # type: ignore[arg-type]
        worker.assign = lambda partitions: None  # type: ignore[method-assign]
        self.supervisor = Supervisor(role, settings, worker)
        self.supervisor.on_failure = self.errors.append


async def test_owned_partitions_run_and_stop_gracefully() -> None:
    bench = Bench()
    await bench.supervisor.assigned([1, 0, 1], [2])
    await eventually(bench.supervisor.ready)
    assert bench.log == ["start 0", "start 1", "start 102"]
    await bench.supervisor.revoked()
    assert sorted(bench.log[3:]) == sorted(
        ["ran 0", "ran 1", "ran 102", "stop 0 graceful", "stop 1 graceful", "stop 102 graceful"]
    )
    assert bench.supervisor.seats == {}
    assert bench.errors == []


async def test_a_partition_comes_back_after_it_was_revoked() -> None:
    bench = Bench()
    for _ in range(2):
        await bench.supervisor.assigned([0], [])
        await eventually(bench.supervisor.ready)
        await bench.supervisor.revoked()
    assert bench.log.count("start 0") == bench.log.count("stop 0 graceful") == 2


@pytest.mark.parametrize("how", ["start fails", "run fails"])
async def test_a_failure_is_told_with_its_partition(how: str) -> None:
    bench = Bench(how)
    await bench.supervisor.assigned([3], [])
    await eventually(lambda: bench.errors)
    assert "in partition 3 of deliver" in bench.errors[0].__notes__


async def test_a_start_that_hangs_is_cancelled_when_revoked() -> None:
    bench = Bench("start hangs")
    await bench.supervisor.assigned([0], [])
    await eventually(lambda: bench.log)
    assert not bench.supervisor.ready()
    await asyncio.wait_for(bench.supervisor.revoked(), 5)
    assert bench.log == ["start 0", "stop 0 at once"]
    assert bench.errors == []


async def test_a_stop_that_hangs_is_given_up_in_time() -> None:
    bench = Bench("stop hangs")
    await bench.supervisor.assigned([0], [])
    await eventually(bench.supervisor.ready)
    await asyncio.wait_for(bench.supervisor.revoked(), 5)
    assert bench.supervisor.seats == {}


async def test_being_fenced_while_stopping_is_no_failure() -> None:
    bench = Bench("stop fenced")
    await bench.supervisor.assigned([0], [])
    await eventually(bench.supervisor.ready)
    await bench.supervisor.revoked()
    assert bench.errors == []


async def test_nothing_starts_after_the_close() -> None:
    bench = Bench()
    await bench.supervisor.close()
    await bench.supervisor.assigned([0], [])
    assert bench.log == []


# --------------------------------------------------------------------------------------- offsets


class Group:
    """A membership that keeps what is committed, or refuses."""

    def __init__(self) -> None:
        self.commits: list[dict[Any, Committed]] = []
        self.stale = False
        self.away = False

    async def committed(self, partitions: Any) -> dict[Any, Committed]:
        return {}

    async def commit_positions(self, positions: Any) -> None:
        if self.stale:
            raise Fenced("stale")
        if self.away:
            raise KafkaTimeoutError
        self.commits.append(dict(positions))


async def test_noted_positions_are_committed_together_and_once() -> None:
    group = Group()
    offsets = OffsetCommitter(group, 1_000)
    offsets.note({tp(0): 5, tp(1): 7})
    offsets.note({tp(0): 6})
    await offsets.flush()
    await offsets.flush()
    assert group.commits == [{tp(0): Committed(6), tp(1): Committed(7)}]
    offsets.note({tp(1): 8})
    await offsets.flush()
    assert group.commits[1:] == [{tp(1): Committed(8)}]


async def test_a_partition_that_is_given_up_is_committed_and_forgotten() -> None:
    group = Group()
    offsets = OffsetCommitter(group, 1_000)
    offsets.note({tp(0): 5, tp(1): 7})
    await offsets.flush(0)
    assert group.commits == [{tp(0): Committed(5)}]
    offsets.note({tp(0): 5})
    await offsets.flush(0)
    assert group.commits[1:] == [{tp(0): Committed(5)}]


async def test_a_stale_generation_costs_only_the_display() -> None:
    group = Group()
    group.stale = True
    offsets = OffsetCommitter(group, 1_000)
    offsets.note({tp(0): 5})
    await offsets.flush()
    group.stale = False
    await offsets.flush()
    assert group.commits == [{tp(0): Committed(5)}]


async def test_an_outage_does_not_end_the_display() -> None:
    group = Group()
    group.away = True
    offsets = OffsetCommitter(group, 1)
    offsets.start()
    offsets.note({tp(0): 5})
    await offsets.flush()
    group.away = False
    await eventually(lambda: group.commits == [{tp(0): Committed(5)}])
    await offsets.stop()


async def test_an_unexpected_error_while_committing_is_told() -> None:
    class Broken(Group):
        async def commit_positions(self, positions: Any) -> None:
            raise LookupError("a bug")

    deaths: list[BaseException] = []
    offsets = OffsetCommitter(Broken(), 1)
    offsets.note({tp(0): 5})
    offsets.start(deaths.append)
    await eventually(lambda: deaths)
    assert isinstance(deaths[0], LookupError)
    await offsets.stop()
