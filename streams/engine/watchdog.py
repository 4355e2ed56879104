"""Finds a worker that is alive and does nothing, or has a wrong clock, and ends it.

Heartbeats come from a thread of their own, so the group keeps a stuck worker for ever; Faust only
logs it. A partition that has lag and has finished nothing for ``stall_ms_max`` ends the process:
what is next, a restart or another owner, can only be better.

Invariant: a partition without lag is never stalled, however long it is quiet.
"""

from __future__ import annotations

import asyncio
import logging
import time

from streams.engine.context import WorkerParts
from streams.engine.settings import EngineSettings
from streams.engine.supervisor import Seat, Supervisor

log = logging.getLogger(__name__)

INTERVAL_S = 0.5


class Stalled(Exception):  # noqa: N818 (a state, named for what happened)
    """A partition has lag and has finished nothing for too long."""


class Watchdog:
    """Measures lag and progress of every runner, and whether the loop is blocked."""

    def __init__(
        self, supervisor: Supervisor, worker: WorkerParts, settings: EngineSettings
    ) -> None:
        self._supervisor = supervisor
        self._worker = worker
        self._settings = settings
        self._quiet_at: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch."""
        self._task = asyncio.create_task(self._run(), name="watchdog")

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                slept_at = time.monotonic()
                await asyncio.sleep(INTERVAL_S)
                self._note_loop(time.monotonic() - slept_at - INTERVAL_S)
                # A worker with nothing to do has no other reason to look at it.
                self._worker.clock.now_ms()
                self.check(time.monotonic())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._supervisor.on_failure(error)

    def _note_loop(self, blocked_s: float) -> None:
        self._worker.metrics.loop_stall_seconds.set(blocked_s)
        if blocked_s * 1000 > self._settings.loop_stall_ms_log:
            log.warning("the event loop was blocked for %.1f s", blocked_s)

    def check(self, now_s: float) -> None:
        """Looks at every runner once; raises ``Stalled``."""
        for partition in list(self._quiet_at):
            if partition not in self._supervisor.seats:
                del self._quiet_at[partition]
        for seat in list(self._supervisor.seats.values()):
            lag = self._lag(seat)
            if lag == 0 and seat.running:
                self._quiet_at[seat.partition] = now_s
            since = max(seat.context.progressed_at, self._quiet_at.get(seat.partition, 0.0))
            if (now_s - since) * 1000 > self._settings.stall_ms_max:
                what = f"has {lag} records to do" if seat.running else "is still starting"
                raise Stalled(
                    f"partition {seat.partition} {what} and has finished nothing for"
                    f" {now_s - since:.0f} s"
                )

    def _lag(self, seat: Seat) -> int:
        total = 0
        for lane in self._worker.role.lanes:
            lag = seat.context.lag(lane.topics)
            seat.context.metrics.lag(lane.name, lag)
            total += lag
        return total
