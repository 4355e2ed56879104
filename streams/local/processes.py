"""Child processes on this machine: start, watch, stop, and say what became of them.

What: `ManagedProcess` is one running child with its log file; around it are small questions that
the broker and the supervisor both ask (how did it exit, what did it say last, who has this port).

Why: asyncio's own subprocesses need a thread or a child watcher on Python 3.11 and belong to one
event loop. A `Popen` that is polled belongs to none, so that one object serves synchronous and
asynchronous callers; a poll is one `waitpid`.

Invariants:
- every child leads its own session, so that Ctrl-C in the terminal reaches only the parent, and a
  kill reaches everything that the child has started;
- every child is tied to its parent's life (guard.py);
- output goes to a file, never to a pipe: a slow reader cannot block a child.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

POLL_INTERVAL_S = 0.03
TAIL_BYTES_MAX = 256 * 1024
LOG_BYTES_MAX = 16 * 1024 * 1024

_GUARD = Path(__file__).with_name("guard.py")


class ManagedProcess:
    """A child, its process group and its log file. Raises OSError if the log cannot be opened."""

    def __init__(
        self, argv: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        rotate(log_path)
        with log_path.open("ab") as log:
            self.log_start = log.tell()
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, then as `subprocess` has it: negative for a signal."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Until it has exited; its return code."""
        while (returncode := self.returncode) is None:
            if rotate(self.log_path):
                self.log_start = 0
            await asyncio.sleep(POLL_INTERVAL_S)
        return returncode

    async def stop(self, deadline_s: float) -> int:
        """SIGTERM, then after `deadline_s` SIGKILL to whatever is left of its group."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a child that was stopped by SIGSTOP would not hear it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self.wait()
        self.kill_group()
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the child alone: it stops what it has started itself. Nothing if it has exited."""
        if self.returncode is None:
            self._popen.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL to the child and to all that it has started and not put in another session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> int:
        """SIGKILL to the group, and its end: at once, unless the kernel holds it in a disk call."""
        self.kill_group()
        return self._popen.wait()

    def output(self) -> str:
        """What it has written since it started (the last 256 KiB of it)."""
        return read_tail(self.log_path, self.log_start)


def rotate(log_path: Path) -> bool:
    """Bound a log: past 16 MiB it becomes `NAME.1`, over the one before. Whether it did.

    Copied and cut short instead of renamed, because a running child holds it open (for appending).
    """
    if not log_path.exists() or log_path.stat().st_size <= LOG_BYTES_MAX:
        return False
    shutil.copyfile(log_path, log_path.with_name(log_path.name + ".1"))
    os.truncate(log_path, 0)
    return True


def read_tail(path: Path, start: int = 0) -> str:
    """The end of a file from byte `start` on, at most 256 KiB; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - TAIL_BYTES_MAX))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def describe_exit(returncode: int) -> str:
    """ "exit code 3", or the signal by its name: 137 is what a shell makes of SIGKILL."""
    number = -returncode if returncode < 0 else returncode - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {returncode}"


def free_port() -> int:
    """A TCP port on which nothing listens now, below the range that outgoing connections use."""
    for _ in range(200):
        port = random.randint(20_000, 32_000)
        if is_port_free(port):
            return port
    raise OSError("no free TCP port found between 20000 and 32000")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_owner(port: int) -> str | None:
    """Who listens there, as "java (pid 4242)"; None if this user may not know."""
    try:
        for connection in psutil.net_connections("tcp"):
            ports = [connection.laddr.port] if connection.laddr else []
            if connection.status == psutil.CONN_LISTEN and port in ports and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
