"""One child of the supervisor: what it is to be, and its life over starts, crashes and restarts.

What: `Child` says what to run and how to know that it is ready; `ChildLife` runs it, starts it
again where that is allowed, and tells each thing that happens as an `Event` with a sentence.

Why: the life of one child is a small state machine; the order among children, the signals and the
end of it all are the supervisor's (supervisor.py).

Invariants:
- only a child that has been ready once is started again: a wrong configuration ends the start;
- restarts are bounded (`restarts_max`), and counted anew once a child has stayed up for a minute;
- an end by a signal that was sent through `signal` is no crash and is not counted;
- when a life ends, nothing that the child had started in its process group is left.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Literal

import aiohttp

from streams.local.processes import ManagedProcess, describe_exit

STABLE_AFTER_S = 60.0
BACKOFF_S_MAX = 5.0
TAIL_LINES = 12
_POLL_INTERVAL_S = 0.05
_ENDING_SIGNALS = (Signals.SIGTERM, Signals.SIGKILL, Signals.SIGINT, Signals.SIGABRT)

ReadyCheck = Callable[[], Awaitable[bool]]
EventKind = Literal[
    "starting",
    "ready",
    "finished",
    "crashed",
    "signalled",
    "killed",
    "restarting",
    "stopping",
    "stopped",
]


@dataclass(frozen=True)
class Child:
    """One process to run. Times are in seconds."""

    name: str
    argv: Sequence[str]
    ready: ReadyCheck | str | None = None
    """A check (`http_ok(url)` is one), or a pattern that its output must show; None: at once."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment."""
    log_path: Path | None = None
    """Where its output goes. Default: `NAME.log` in the supervisor's log folder."""
    restart: Literal["never", "always"] = "never"
    restarts_max: int = 5
    backoff_s: float = 0.2
    """Before the first restart; doubled for each further one, at most 5 s."""
    ready_deadline_s: float = 60.0
    stop_deadline_s: float = 10.0


@dataclass(frozen=True)
class Event:
    """What happened to a child: `text` is a sentence, `tail` a crashed one's last lines."""

    kind: EventKind
    name: str
    text: str
    pid: int | None = None
    tail: str = ""


class ChildFailed(Exception):  # noqa: N818 - it names what happened to a child
    """A child has ended, or did not get ready, and will not be started again by itself."""

    def __init__(self, event: Event) -> None:
        super().__init__(f"{event.text}\n{event.tail}".rstrip())
        self.event = event


class ChildLife:
    """Runs one child. `tell` is called with each event, `changed` when the life is over."""

    def __init__(
        self,
        child: Child,
        log_path: Path,
        tell: Callable[[Event], None],
        changed: Callable[[], None],
    ) -> None:
        self.child = child
        self.is_ready = False
        self._log_path = log_path
        self._tell = tell
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._process: ManagedProcess | None = None
        self._failure: Event | None = None
        self._stopping = False
        self._sent: Signals | None = None
        self._was_ready_once = False
        self._restarts = 0

    @property
    def is_over(self) -> bool:
        """Whether it neither runs nor will be started again by itself."""
        return self._task is None or self._task.done()

    @property
    def pid(self) -> int | None:
        """Of its process, None while there is none."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    def raise_failure(self) -> None:
        """Raises ChildFailed if it has failed for good."""
        if self._failure:
            raise ChildFailed(self._failure)
        if self._task and self._task.done() and not self._task.cancelled():
            self._task.result()  # raises what only a mistake in this file can have raised

    def begin(self) -> None:
        """Start it. It must be over."""
        self._failure, self._stopping = None, False
        self._was_ready_once, self._restarts = False, 0
        self._task = asyncio.get_running_loop().create_task(self._live())
        self._task.add_done_callback(lambda _task: self._changed())

    async def end(self) -> None:
        """Stop it in an orderly way, after its deadline by SIGKILL. Nothing if it is over."""
        self._stopping = True
        if self._process and self._process.returncode is None:
            self._say("stopping", "is asked to stop")
            await self._process.stop(self.child.stop_deadline_s)
            was_killed = self._process.returncode == -Signals.SIGKILL
            late = f"did not stop within {self.child.stop_deadline_s:g} s and was killed"
            self._say("stopped", late if was_killed else "has stopped")
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.is_ready = False

    def kill_for_good(self) -> None:
        """SIGKILL to all of its process group, now."""
        self._stopping = True
        if self._process:
            self._process.kill_group()

    def signal(self, number: Signals) -> None:
        """Send it a signal; an end by it counts as no crash. Nothing if it does not run."""
        if self._process and self.pid:
            self._sent = number
            # At once, so that whoever waits for "ready" next does not see the process that goes.
            self.is_ready = self.is_ready and number not in _ENDING_SIGNALS
            self._say("signalled", f"was sent {number.name}")
            self._process.signal(number)

    async def _live(self) -> None:
        while True:
            started = time.monotonic()
            end = await self._one_run()
            self.is_ready = end.kind == "finished"
            if self._stopping:
                return
            if time.monotonic() - started > STABLE_AFTER_S:
                self._restarts = 0
            may_restart = self._may_restart(end)
            if end.kind == "crashed" and not may_restart:
                self._failure = end
            self._tell(end)
            if not may_restart:
                return
            await self._back_off(end)

    async def _one_run(self) -> Event:
        """One process from start to end; the event that its end is."""
        self._sent = None
        try:
            process = ManagedProcess(self.child.argv, self._log_path, env=self.child.env)
        except OSError as error:
            return self._event("crashed", f"cannot be started: {error}")
        self._process = process
        self._say("starting", "starts")
        try:
            async with asyncio.timeout(self.child.ready_deadline_s):
                was_ready = await self._until_ready(process)
        except TimeoutError:
            process.kill()
            text = f"was not ready within {self.child.ready_deadline_s:g} s and was killed"
            return self._event("crashed", text, tail=_last_lines(process))
        if was_ready:
            self.is_ready = self._was_ready_once = True
            self._say("ready", "is ready")
        returncode = await process.wait()
        process.kill_group()
        return self._end_event(process, returncode, was_ready)

    async def _until_ready(self, process: ManagedProcess) -> bool:
        """True once it is ready, False if it has ended before that."""
        check = self.child.ready
        while process.returncode is None:
            if check is None or (
                re.search(check, process.output()) if isinstance(check, str) else await check()
            ):
                return True
            await asyncio.sleep(_POLL_INTERVAL_S)
        return False

    def _end_event(self, process: ManagedProcess, returncode: int, was_ready: bool) -> Event:
        if returncode == 0 and self.child.restart == "never":
            return self._event("finished", "has finished")
        # A JVM that obeys SIGTERM exits with 143, as a shell would put it.
        if self._sent and returncode in (-self._sent, 128 + self._sent):
            return self._event("killed", f"was ended by {self._sent.name}, as asked")
        when = "ended" if was_ready else "ended before it was ready"
        text = f"{when}: {describe_exit(returncode)}"
        return self._event("crashed", text, tail=_last_lines(process))

    def _may_restart(self, end: Event) -> bool:
        if end.kind == "finished" or self.child.restart == "never":
            return False
        is_bounded = self._was_ready_once and self._restarts < self.child.restarts_max
        return end.kind == "killed" or is_bounded

    async def _back_off(self, end: Event) -> None:
        delay_s = min(BACKOFF_S_MAX, self.child.backoff_s * 2**self._restarts)
        text = f"is started again in {delay_s:g} s"
        if end.kind == "crashed":
            self._restarts += 1
            text += f" (restart {self._restarts} of at most {self.child.restarts_max})"
        self._say("restarting", text)
        await asyncio.sleep(delay_s)

    def _say(self, kind: EventKind, text: str) -> None:
        self._tell(self._event(kind, text))

    def _event(self, kind: EventKind, text: str, tail: str = "") -> Event:
        pid = self._process.pid if self._process else None
        return Event(kind, self.child.name, f"{self.child.name} {text}", pid, tail)


def http_ok(url: str) -> ReadyCheck:
    """A check that holds when a GET of `url` answers 200 within a second."""

    async def check() -> bool:
        timeout = aiohttp.ClientTimeout(total=1)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url) as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return check


def _last_lines(process: ManagedProcess) -> str:
    return "\n".join(process.output().splitlines()[-TAIL_LINES:])
