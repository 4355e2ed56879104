"""A deterministic event loop: simulated time, processes that can be stopped and killed.

Everything that the product does between two awaits is done by the product itself; only the loop
is ours. Time does not pass while code runs: when nothing is ready it jumps to the next timer. A
``Process`` is whatever was started inside it, and what that started in turn (a context variable
tells): killing it drops all of that where it stands, with no handler and no clean-up, as SIGKILL
does; pausing it keeps it for later, as SIGSTOP does.

Invariants: the same program on the same loop takes the same steps in the same order; after a kill
not one more instruction of the process runs, but for the rest of the step that it is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SECOND_US = 1_000_000
EPOCH_MS = 1_772_366_400_000
"""Sunday 2026-03-01, 12:00 UTC: when every simulation begins."""


class Process:
    """One simulated operating-system process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.skew_ms = 0
        """How far its wall clock is ahead of the true time."""
        self.paused_us = 0
        self.resumed_us = -SECOND_US
        """When it was last stopped, and when it could go on."""
        self.frozen: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def late_us(self, now_us: int) -> int:
        """How late it may do what it had decided on just before it was stopped."""
        just_resumed = now_us - self.resumed_us < SECOND_US
        return self.resumed_us - self.paused_us if just_resumed else 0

    def __repr__(self) -> str:
        return self.name


OUTSIDE = Process("outside")
"""Whatever belongs to no simulated process: the world itself."""
CURRENT: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=OUTSIDE)


class Stuck(Exception):  # noqa: N818 (a state, named for what happened)
    """Nothing is left that could ever run, or far too much did."""


_Loop: Any = asyncio.AbstractEventLoop
"""Untyped: three dozen of its methods (sockets, signals, threads) have no place here."""


class SimLoop(_Loop):  # type: ignore[misc]
    """See the module's text. Only what the product needs of an event loop is here."""

    def __init__(self, steps_max: int = 1_000_000) -> None:
        self.now_us = 0
        self.steps = 0
        self._steps_max = steps_max
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[int, int, asyncio.Handle]] = []
        self._sequence = 0
        self.failures: list[dict[str, Any]] = []
        """What nobody else handled: a task's exception that was never retrieved."""

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now_us / 1_000_000

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = (context or contextvars.copy_context()).get(CURRENT, OUTSIDE)
        process.tasks.append(task)
        if len(process.tasks) > 1_000:
            process.tasks = [one for one in process.tasks if not one.done()]
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        # Never early: whoever finds a rest of its time left would wait for it again and again.
        at_us = max(math.ceil(when * 1_000_000), self.now_us + 1)
        heapq.heappush(self._timers, (at_us, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    # -- running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs until ``main`` is done. Raises ``Stuck`` when it never will be."""
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            task: asyncio.Task[T] = self.create_task(main, name="main")
            while not task.done():
                self._step()
            return task.result()
        finally:
            asyncio._set_running_loop(previous)

    def _step(self) -> None:
        if not self._ready:
            self._jump()
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        process: Process = handle._context.get(CURRENT, OUTSIDE)  # type: ignore[attr-defined]
        if not process.alive:
            return
        if process.paused:
            process.frozen.append(handle)
            return
        self.steps += 1
        if self.steps > self._steps_max:
            raise Stuck(f"{self.steps} steps by {self.time():.1f} s: something spins")
        handle._run()

    def _jump(self) -> None:
        """On to the next timer, with all that are due at the same moment."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is left to wait for")
        self.now_us = max(self.now_us, timers[0][0])
        while timers and timers[0][0] <= self.now_us:
            self._ready.append(heapq.heappop(timers)[2])

    # -- processes

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts ``coro`` as part of ``process``."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, process)
        task: asyncio.Task[T] = self.create_task(coro, name=name, context=context)
        return task

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        process.paused, process.paused_us = True, self.now_us

    def resume(self, process: Process) -> None:
        """SIGCONT: goes on with what it had to do."""
        process.paused, process.resumed_us = False, self.now_us
        self._ready.extend(process.frozen)
        process.frozen.clear()

    def bury(self, process: Process) -> None:
        """Closes what a killed process left, so that nothing of it is heard of again."""
        for task in process.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _close(task.get_coro())
        process.tasks.clear()


def _close(coro: Any) -> None:
    # Its last words, after the end of the world.
    with contextlib.suppress(BaseException):
        coro.close()


async def sleep_us(loop: SimLoop, delay_us: int) -> None:
    """Simulated time passes."""
    done = loop.create_future()
    loop.call_at((loop.now_us + delay_us) / 1_000_000, _wake, done)
    await done


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class SimTime:
    """Stands in for the clocks of the ``time`` module while a simulation runs."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def true_ms(self) -> int:
        """The time that it really is."""
        return EPOCH_MS + self._loop.now_us // 1_000

    def time_ns(self) -> int:
        """The wall clock of the process that asks."""
        return (EPOCH_MS + CURRENT.get().skew_ms) * 1_000_000 + self._loop.now_us * 1_000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def monotonic(self) -> float:
        return self._loop.now_us / 1_000_000

    perf_counter: Callable[[SimTime], float] = monotonic
