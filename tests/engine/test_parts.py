"""Small parts of the engine: fence records, crash points, snapshots, timers, steps, watchdog."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.codec import lz4_decode, lz4_encode

from streams.engine import fence, watchdog
from streams.engine.api import Result
from streams.engine.clients import client_settings
from streams.engine.clock import WallClock
from streams.engine.crash_points import BATCH_POINTS, VARIABLE, CrashPoints
from streams.engine.metrics import Metrics
from streams.engine.roles import Lane
from streams.engine.settings import EngineSettings
from streams.engine.snapshots import EndOffsets
from streams.engine.steps import StepAgent
from streams.engine.timers import horizon_ms
from streams.engine.watchdog import Stalled, Watchdog
from tests.engine.fakes import FakeLogs
from tests.eventually import eventually


def test_a_fence_is_read_back() -> None:
    written = fence.Fence({"events": 7}, 1_000, "wake", 900, "v1", 3, read_again={"control": 9})
    assert fence.decode(fence.encode(written)) == written


def test_an_older_fence_is_read_by_a_newer_release() -> None:
    assert fence.decode(b"\x91\x81\xa1a\x05") == fence.Fence({"a": 5})


def test_what_is_no_fence_is_refused() -> None:
    with pytest.raises(ValueError, match="not a fence"):
        fence.decode(b"\x01")


def test_crash_points_kill_at_the_named_visit_only() -> None:
    script = (
        "from streams.engine.crash_points import CrashPoints\n"
        "points = CrashPoints()\n"
        "for name in ['before_begin', 'after_send', 'after_send', 'after_send']:\n"
        "    points.pass_through(name); print(name, flush=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env={VARIABLE: "after_send:2"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout.split()) == (-9, ["before_begin", "after_send"])


def test_crash_points_do_nothing_unless_armed() -> None:
    points = CrashPoints("")
    for name in BATCH_POINTS:
        points.pass_through(name)


def test_clients_get_the_security_settings() -> None:
    settings = EngineSettings(bootstrap="kafka:9", security={"security_protocol": "SSL"})
    arguments = client_settings(settings, "decide-urgent")
    assert arguments["security_protocol"] == "SSL"
    assert arguments["bootstrap_servers"] == "kafka:9"


def test_lz4_is_fast_rather_than_small_and_still_read() -> None:
    text = b"".join(b"member-%08d likes what you said. " % number for number in range(5_000))
    assert lz4_encode(text) == lz4_encode(text, 1) != lz4_encode(text, 9)
    assert lz4_decode(lz4_encode(text)) == text


# ------------------------------------------------------------------------------------- snapshots


class SlowReader:
    """Answers when told to; says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[set[TopicPartition]] = []
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def end_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        self.asked.append(set(partitions))
        await self.go.acquire()
        if self.error:
            raise self.error
        return {tp: len(self.asked) for tp in partitions}


def tp(number: int) -> TopicPartition:
    return TopicPartition("t", number)


async def test_callers_that_come_while_a_request_is_out_share_the_next() -> None:
    reader = SlowReader()
    ends = EndOffsets(reader)  # type: ignore[arg-type]
    first = asyncio.create_task(ends.get([tp(0)]))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(ends.get([tp(number)])) for number in range(5)]
    await asyncio.sleep(0.01)
    reader.go.release()
    reader.go.release()
    assert await first == {tp(0): 1}
    assert [await other for other in others] == [{tp(number): 2} for number in range(5)]
    assert reader.asked == [{tp(0)}, {tp(number) for number in range(5)}]
    assert (ends.calls, ends.requests) == (6, 2)


async def test_a_failed_request_fails_its_callers_and_the_next_works() -> None:
    reader = SlowReader()
    reader.error = RuntimeError("away")
    reader.go.release()
    ends = EndOffsets(reader)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="away"):
        await ends.get([tp(0)])
    reader.error = None
    reader.go.release()
    assert await ends.get([tp(0)]) == {tp(0): 2}


# ---------------------------------------------------------------------------------------- timers

HOLDING = (Lane("control", ("receipts",), 1), Lane("normal", ("normal",), 1))


async def horizon(logs: FakeLogs, positions: dict[str, int], times: dict[str, int]) -> int:
    context: Any = logs
    return await horizon_ms(context, HOLDING, positions, times, now_ms=1_000)


async def test_without_a_backlog_the_horizon_is_now() -> None:
    logs = FakeLogs()
    logs.append("receipts", 10)
    logs.drain(("receipts",), 1)
    assert await horizon(logs, {"receipts": 1}, {"receipts": 10}) == 1_000


async def test_the_horizon_stops_at_what_was_decided_of_a_lane_with_backlog() -> None:
    logs = FakeLogs()
    for at in (10, 20, 30):
        logs.append("receipts", at)
    logs.drain(("receipts",), 2)
    assert await horizon(logs, {"receipts": 2}, {"receipts": 20}) == 20


async def test_nothing_fires_before_anything_was_read_of_a_backlog() -> None:
    logs = FakeLogs()
    logs.append("normal", 10)
    assert await horizon(logs, {}, {}) == 0


async def test_a_marker_at_the_end_is_no_backlog() -> None:
    """The position is past it though the fence is not."""
    logs = FakeLogs()
    logs.append("normal", 10)
    logs.positions["normal"] = 1
    assert await horizon(logs, {"normal": 0}, {}) == 1_000


# ----------------------------------------------------------------------------------------- steps


async def test_a_step_runs_in_the_agent_even_while_flow_is_suspended() -> None:
    import faust

    app = faust.App("steps", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
    steps = StepAgent(app, "decide")
    app.finalize()
    app.flow_control.suspend()
    await app.agents.start()
    await eventually(lambda: steps.listening)
    result = Result()
    assert await asyncio.wait_for(steps(lambda: result), 5) is result

    def broken() -> Result:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        await asyncio.wait_for(steps(broken), 5)
    app.flow_control.resume()
    assert await asyncio.wait_for(steps(lambda: result), 5) is result
    assert list(app.agents) == ["decide"]
    await app.agents.stop()


# -------------------------------------------------------------------------------------- watchdog


class FakeSeat:
    """A running seat whose lag is set by the test."""

    partition = 0
    running = True
    lag_records = 0

    def __init__(self) -> None:
        self.context: Any = self
        self.metrics: Any = self
        self.progressed_at = 0.0

    def lag(self, *_: Any) -> int:
        return self.lag_records


def watchdog_of(seat: FakeSeat) -> Watchdog:
    supervisor: Any = type("Supervisor", (), {"seats": {0: seat}})()
    role = type("Role", (), {"lanes": (Lane("normal", ("normal",), 1),)})()
    worker: Any = type("Worker", (), {"role": role})()
    settings = EngineSettings(bootstrap="nowhere", stall_ms_max=60_000)
    return Watchdog(supervisor, worker, settings)


async def test_who_has_nothing_to_do_notices_a_wrong_clock_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "INTERVAL_S", 0.01)
    watching = watchdog_of(FakeSeat())
    supervisor: Any = watching._supervisor
    wrong: list[BaseException] = []
    supervisor.on_failure = wrong.append
    worker: Any = watching._worker
    worker.metrics = Metrics("decide")
    worker.clock = WallClock(1_000, lambda _: None)
    watching.start()
    await asyncio.sleep(0)
    worker.clock._ahead_ms -= 7_200_000
    await eventually(lambda: wrong)
    await watching.stop()
    assert "jumped by +7200 s" in str(wrong[0])


def test_quiet_is_not_stalled() -> None:
    seat = FakeSeat()
    watching = watchdog_of(seat)
    for now_s in range(0, 1_000, 10):
        watching.check(float(now_s))


def test_lag_without_progress_is_stalled_after_its_time() -> None:
    seat = FakeSeat()
    watching = watchdog_of(seat)
    watching.check(1_000.0)
    seat.lag_records = 5
    watching.check(1_001.0)
    watching.check(1_059.0)
    with pytest.raises(Stalled, match="5 records"):
        watching.check(1_061.0)


def test_lag_with_progress_is_not_stalled() -> None:
    seat = FakeSeat()
    seat.lag_records = 5
    watching = watchdog_of(seat)
    for now_s in range(0, 1_000, 10):
        seat.progressed_at = float(now_s)
        watching.check(now_s + 5.0)


def test_a_start_that_goes_nowhere_is_stalled() -> None:
    seat = FakeSeat()
    seat.running = False
    seat.progressed_at = time.monotonic()
    with pytest.raises(Stalled, match="still starting"):
        watchdog_of(seat).check(seat.progressed_at + 61)
