"""Runners of a worker: started when partitions are assigned, stopped before they are let go.

Faust says what this worker owns; here it becomes one runner per partition number (and one standby
per warm copy), each in a task. A rebalance is held until every runner has stopped, within a bound.
Whatever goes wrong in a runner, or in anything in the background, ends the process: the exit
status tells the supervisor outside, and the next start begins from what is durable.

Invariants: never two runners for one partition in one process; a failure is logged once, with its
reason, and nothing is decided after it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable

from streams.engine.context import Context, WorkerParts
from streams.engine.roles import Fenced, PartitionRunner, RoleSpec
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

EXIT_FAILURE = 1


class Seat:
    """One runner with its task."""

    def __init__(self, partition: int, runner: PartitionRunner, context: Context) -> None:
        self.partition = partition
        self.runner = runner
        self.context = context
        self.running = False
        """Whether ``start`` has returned."""
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """Owns the runners. All methods run on the main loop."""

    def __init__(self, role: RoleSpec, settings: EngineSettings, worker: WorkerParts) -> None:
        self._role = role
        self._settings = settings
        self._worker = worker
        self.seats: dict[int, Seat] = {}
        self.standbys: dict[int, Seat] = {}
        self._turn = asyncio.Lock()
        self._closed = False
        self.on_failure: Callable[[BaseException], None] = end_process

    def ready(self) -> bool:
        """Whether every runner has started."""
        return all(seat.running for seat in self.seats.values())

    async def assigned(self, actives: Iterable[int], standbys: Iterable[int]) -> None:
        """This worker now owns ``actives`` and keeps ``standbys`` warm."""
        async with self._turn:
            if self._closed:
                return
            assert not self.seats, "revoke before assigning"
            active = sorted(set(actives))
            self._worker.assign(active)
            for partition in active:
                context = Context(partition, self._worker)
                runner = self._role.runner_factory(partition, context)
                self.seats[partition] = self._begin(Seat(partition, runner, context))
            if self._role.standby_factory is not None:
                for partition in sorted(set(standbys) - set(active)):
                    context = Context(partition, self._worker)
                    runner = self._role.standby_factory(partition, context)
                    self.standbys[partition] = self._begin(Seat(partition, runner, context))
            log.info("owns %s, keeps warm %s", active, sorted(self.standbys))

    def _begin(self, seat: Seat) -> Seat:
        seat.task = asyncio.create_task(self._live(seat), name=f"partition-{seat.partition}")
        return seat

    async def _live(self, seat: Seat) -> None:
        try:
            await seat.runner.start()
            seat.running = True
            await seat.runner.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            error.add_note(f"in partition {seat.partition} of {self._role.name}")
            self.on_failure(error)

    async def revoked(self) -> None:
        """Nothing is owned any more: every runner stops, all at the same time."""
        async with self._turn:
            await self._stop_all()

    async def close(self) -> None:
        """Stops every runner for good."""
        async with self._turn:
            self._closed = True
            await self._stop_all()

    async def _stop_all(self) -> None:
        seats = [*self.seats.values(), *self.standbys.values()]
        await asyncio.gather(*(self._stop(seat) for seat in seats))
        self.seats.clear()
        self.standbys.clear()

    async def _stop(self, seat: Seat) -> None:
        assert seat.task is not None
        graceful = seat.running
        if not graceful:
            await _cancel(seat.task)
        try:
            async with asyncio.timeout(self._settings.revoke_ms_max / 1000):
                await seat.runner.stop(graceful)
        except TimeoutError:
            # Kafka may be away, which is no reason to end: what was not said is done again.
            log.error(
                "partition %d did not stop within %d ms: given up as it is",
                seat.partition, self._settings.revoke_ms_max,
            )  # fmt: skip
        except Fenced as error:
            log.warning("partition %d was taken over while it stopped: %s", seat.partition, error)
        except Exception as error:
            error.add_note(f"while partition {seat.partition} of {self._role.name} stopped")
            self.on_failure(error)
        await _cancel(seat.task)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def end_process(error: BaseException) -> None:
    """Says why, and ends the process at once with a status that says failure.

    Clean-up is what the next start does: fence, restore, go on. Waiting for it here would be
    waiting for what has just proved not to work.
    """
    log.critical("ends: %s", error, exc_info=error)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAILURE)
