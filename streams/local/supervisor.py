"""Runs the parts of the system on one machine as child processes, and tells what becomes of them.

What: `Supervisor` starts children in order, each when the one before is ready, and stops them in
reverse order; between, each lives its own life (children.py).

Why: `flowstate up`, the demo and the fault runs need the same: real processes that can be killed,
and a crash that is told at once, by name, with the last lines of its log.

Invariants:
- no child is left behind: not after Ctrl-C (once: in order; twice: at once), nor after a crash of
  ours (guard.py), nor what a child has started itself (its process group is killed);
- no stop waits without a deadline, and there are no threads.

Use it from the main thread: there signals arrive, and a child dies with the thread it came from.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from streams.local.children import Child, ChildFailed, ChildLife, Event, http_ok

__all__ = ["Child", "ChildFailed", "Event", "Supervisor", "http_ok"]


class Supervisor:
    """Starts, watches and stops `children`. Either `run()`, or `async with` and the single calls.

    Children's logs are `log_folder/NAME.log`; `on_event` is called with each event as it happens.
    """

    def __init__(
        self,
        children: Iterable[Child],
        log_folder: Path,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._on_event = on_event
        self._changed = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._lives: dict[str, ChildLife] = {}
        for child in children:
            if child.name in self._lives:
                raise ValueError(f"two children are named {child.name!r}")
            log_path = child.log_path or log_folder / f"{child.name}.log"
            self._lives[child.name] = ChildLife(child, log_path, self._tell, self._changed.set)

    async def run(self) -> int:
        """Start, wait, stop: all of it. Ends by Ctrl-C, SIGTERM, `ask_stop`, a child that fails,
        or when every child has finished. Returns 1 after a failure (which was an event), else 0.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask_stop)
        work = asyncio.ensure_future(self._start_and_wait())
        asked = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            asked.cancel()
            await self.stop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        try:
            await work
        except asyncio.CancelledError:
            return 0
        except ChildFailed:
            return 1
        return 0

    def ask_stop(self) -> None:
        """Make `run` end in an orderly way; called a second time, kill everything now."""
        if self._stop_asked.is_set():
            for life in self._lives.values():
                life.kill_for_good()
        self._stop_asked.set()

    async def start(self) -> None:
        """Start all in order, each when the one before is ready. Raises ChildFailed."""
        for name, life in self._lives.items():
            life.begin()
            await self.wait_ready(name)

    async def stop(self) -> None:
        """Stop all in reverse order; what outlives its deadline is killed."""
        for life in reversed(self._lives.values()):
            await life.end()

    async def wait(self) -> None:
        """Until every child is over. Raises ChildFailed as soon as one has failed."""
        await self._until(lambda: all(life.is_over for life in self._lives.values()))

    async def wait_ready(self, name: str) -> None:
        """Until that child is ready. Raises ChildFailed if it, or another meanwhile, fails, and
        if it does not run and nobody will start it."""
        life = self._lives[name]
        await self._until(lambda: life.is_ready or life.is_over)
        if not life.is_ready:
            raise ChildFailed(Event("stopped", name, f"{name} does not run"))

    async def restart(self, name: str) -> None:
        """Stop that child if it runs, start it, wait until it is ready. Raises ChildFailed."""
        life = self._lives[name]
        await life.end()
        life.begin()
        await self.wait_ready(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send that child a signal. An end by it is no failure and uses up no restart: a child with
        `restart="always"` comes back by itself, another one by `restart`."""
        self._lives[name].signal(number)

    def pid(self, name: str) -> int | None:
        """The process id of that child, None while it does not run."""
        return self._lives[name].pid

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start_and_wait(self) -> None:
        await self.start()
        await self.wait()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            for life in self._lives.values():
                life.raise_failure()
            if condition():
                return
            self._changed.clear()
            await self._changed.wait()

    def _tell(self, event: Event) -> None:
        self._changed.set()
        if self._on_event:
            self._on_event(event)
