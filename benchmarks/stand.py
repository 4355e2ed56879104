"""The test stand: a Kafka of its own, worker processes, and what can be seen of them from outside.

Invariants: whatever is started is stopped, and its folder removed, however a benchmark ends;
progress is read from Kafka alone (ends and committed positions), so it is true of any worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

from benchmarks.load import Gate
from benchmarks.report import ROOT, Options
from streams import topics
from streams.engine.topics_admin import create_topics
from streams.local.broker import EmbeddedBroker
from streams.local.processes import ManagedProcess, free_port
from streams.settings import default_path

READY_S_MAX = 120.0
STALLED_S_MAX = 60.0
"""No position moved for so long: something is broken, and its log is shown."""
POLL_S = 0.05
BROKER_HEAP_MB = 1_024
STOP_S = 40.0

NO_COORDINATOR_YET = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
Place = tuple[str, int]
"""(topic, partition)."""


def say(text: str) -> None:
    """Tells whoever waits what is being done, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def now_ms() -> int:
    """The wall clock, in milliseconds."""
    return time.time_ns() // 1_000_000


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder, which may be changing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


class Worker:
    """One worker process and what it uses."""

    def __init__(self, name: str, process: ManagedProcess, url: str) -> None:
        self.name = name
        self.process = process
        self.url = url
        self._seen = psutil.Process(process.pid)

    def check(self) -> None:
        """Raises RuntimeError with the end of its log when it has ended."""
        if self.process.returncode is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self.process.output()[-4_000:]

    def cpu_s(self) -> float:
        """Seconds of CPU so far, user and system, all threads."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def waited_s(self) -> float:
        """Seconds that its main thread was ready to run and had no core (Linux; 0 elsewhere)."""
        try:
            text = Path(f"/proc/{self.process.pid}/schedstat").read_text()
        except OSError:
            return 0.0
        return int(text.split()[1]) / 1e9

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return int(self._seen.memory_info().rss)

    async def ready(self) -> None:
        """Waits until its pages say that it does its share."""
        deadline = time.monotonic() + READY_S_MAX
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                self.check()
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self.url + "/health/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(POLL_S)
        raise RuntimeError(f"{self.name} is not ready:\n{self.said()}")

    async def metrics(self) -> dict[str, float]:
        """What it counts, by name, summed over labels."""
        url = self.url + "/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found

    async def stop(self) -> None:
        """Stops it gracefully."""
        await self.process.stop(STOP_S)


class Workers:
    """Workers that share a role's partitions, seen as one."""

    def __init__(self, each: Sequence[Worker]) -> None:
        self.each = tuple(each)

    @property
    def first(self) -> Worker:
        """One of them, to be looked at closely."""
        return self.each[0]

    def check(self) -> None:
        """Raises RuntimeError when one has ended: the others would go on in its place."""
        for worker in self.each:
            worker.check()

    def said(self) -> str:
        """The end of the first one's log."""
        return self.first.said()

    def cpu_s(self) -> float:
        """Of all."""
        return sum(worker.cpu_s() for worker in self.each)

    def waited_s(self) -> float:
        """Their mean."""
        return sum(worker.waited_s() for worker in self.each) / len(self.each)

    def rss_bytes(self) -> int:
        """Of all."""
        return sum(worker.rss_bytes() for worker in self.each)

    async def ready(self) -> None:
        """Waits until every one does its share."""
        await asyncio.gather(*(worker.ready() for worker in self.each))

    async def metrics(self) -> dict[str, float]:
        """Of all together."""
        counted = [await worker.metrics() for worker in self.each]
        return {name: sum(one.get(name, 0.0) for one in counted) for name in counted[0]}

    async def stop(self) -> None:
        """Stops them gracefully."""
        await asyncio.gather(*(worker.stop() for worker in self.each))


class Stand:
    """A broker with the product's topics, and workers on it."""

    def __init__(self, folder: Path, broker: EmbeddedBroker, partitions: int) -> None:
        self.folder = folder
        self.broker = broker
        self.partitions = partitions
        self.bootstrap = broker.bootstrap
        self.config = default_path()
        """Configuration of the roles."""
        self.watch = Watch(broker.bootstrap)
        self._broker_process = psutil.Process(broker.pid)
        self._workers: list[Worker] = []

    def broker_cpu_s(self) -> float:
        """Seconds of CPU that the broker has used."""
        times = self._broker_process.cpu_times()
        return float(times.user + times.system)

    def log_bytes(self, names: Iterable[str]) -> int:
        """Bytes that Kafka keeps of topics: the segments alone, whose indexes are mostly holes."""
        data = self.broker.data_folder / "data"
        return sum(
            path.stat().st_size
            for name in names
            for number in range(self.partitions)
            for path in (data / f"{name}-{number}").glob("*.log")
        )

    async def make_topics(self, names: Iterable[str], **config: str) -> None:
        """Topics beside the product's, with as many partitions."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            wanted = [NewTopic(name, self.partitions, 1, topic_configs=config) for name in names]
            answer = await admin.create_topics(wanted)
            errors = [error for error in answer.topic_errors if error[1]]
            if errors:
                raise RuntimeError(f"topics could not be made: {errors}")
        finally:
            await admin.close()
        await self.watch.led([wanted.name for wanted in wanted], self.partitions)

    def role(self, role: str, name: str = "", settings: Mapping[str, str] | None = None) -> Worker:
        """Starts ``flowstate worker ROLE`` on the shipped configuration.

        ``settings``: ``SECTION__KEY`` -> text, as environment variables have them.
        """
        name = name or role
        port = free_port()
        given = {
            "KAFKA__BOOTSTRAP": self.bootstrap,
            "KAFKA__PARTITIONS": str(self.partitions),
            "DATA_FOLDER": str(self.folder / name),
            "ENGINE__WORKER_NAME": name,
            "ENGINE__WEB_PORT": str(port),
            # Positions in the group are what is watched, so they must be fresh.
            "ENGINE__OFFSETS_COMMIT": "100ms",
            "ENGINE__IDLE_FENCE": "500ms",
            **(settings or {}),
        }
        command = ["-m", "streams.cli", "worker", role, "--config", str(self.config)]
        return self.start(name, command, {f"FLOWSTATE_{k}": v for k, v in given.items()}, port)

    def share(self, role: str, workers: int) -> Workers:
        """Starts so many workers of a role."""
        return Workers([self.role(role, f"{role}-{number}") for number in range(workers)])

    def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], port: int = 0
    ) -> Worker:
        """Starts a Python process of this checkout."""
        process = ManagedProcess(
            [sys.executable, *arguments],
            self.folder / "logs" / f"{name}-{len(self._workers)}.log",
            {"PYTHONPATH": str(ROOT), **environment},
        )
        worker = Worker(name, process, f"http://127.0.0.1:{port}")
        self._workers.append(worker)
        return worker

    async def until_consumed(
        self, group: str, targets: Mapping[Place, int], worker: Worker | Workers
    ) -> None:
        """Waits until a group has committed all targets. Raises RuntimeError on a stall."""
        moved_at, before = time.monotonic(), -1
        while True:
            committed = await self.watch.committed(group)
            left = sum(max(0, end - committed.get(at, 0)) for at, end in targets.items())
            if not left:
                return
            worker.check()
            if left != before:
                moved_at, before = time.monotonic(), left
            elif time.monotonic() - moved_at > STALLED_S_MAX:
                what = f"{group} stands still with {left} records left"
                raise RuntimeError(f"{what}:\n{worker.said()}")
            await asyncio.sleep(POLL_S)

    async def work_off(
        self, gate: Gate, group: str, targets: Mapping[Place, int], worker: Worker | Workers
    ) -> None:
        """Opens a gate and waits until all behind it is consumed: what ``measured`` measures."""
        await asyncio.to_thread(gate.open)
        await self.until_consumed(group, targets, worker)

    async def close(self) -> None:
        """Ends what runs; the folder goes with it."""
        for worker in self._workers:
            if worker.process.returncode is None:
                worker.process.kill()
        await self.watch.close()


@contextlib.asynccontextmanager
async def open_stand(partitions: int, product_topics: bool = True) -> AsyncIterator[Stand]:
    """A stand on a folder of its own, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="flowstate-bench-"))
    broker = EmbeddedBroker(folder / "kafka", port=0, heap_mb=BROKER_HEAP_MB)
    try:
        await broker.start_async()
        if product_topics:
            await create_topics(broker.bootstrap, topics.SPECS, partitions, 1, False)
        stand = Stand(folder, broker, partitions)
        await stand.watch.start()
        try:
            yield stand
        finally:
            await stand.close()
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """Ends of topics and committed positions of groups, over two connections of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)

    async def start(self) -> None:
        """Connects."""
        await self._admin.start()
        await self._consumer.start()

    async def close(self) -> None:
        """Disconnects."""
        await self._consumer.stop()
        await self._admin.close()

    async def led(self, names: Sequence[str], partitions: int) -> None:
        """Waits until every partition of new topics has its leader."""
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            described = await self._admin.describe_topics(list(names))
            led = [p for topic in described for p in topic["partitions"] if p["leader"] >= 0]
            if len(led) == len(names) * partitions:
                return
            await asyncio.sleep(POLL_S)
        raise RuntimeError(f"topics without leaders: {', '.join(names)}")

    async def ends(self, names: Iterable[str], partitions: int) -> dict[Place, int]:
        """Where topics end, open transactions and markers included."""
        places = [TopicPartition(name, n) for name in names for n in range(partitions)]
        ends = await self._consumer.end_offsets(places)
        return {(tp.topic, tp.partition): end for tp, end in ends.items()}

    async def committed(self, group: str) -> dict[Place, int]:
        """Positions that a group has committed; none while the broker is making its topic."""
        try:
            positions = await self._admin.list_consumer_group_offsets(group)
        except NO_COORDINATOR_YET:
            return {}
        return {(tp.topic, tp.partition): max(0, at.offset) for tp, at in positions.items()}


class Recording:
    """py-spy beside a worker for as long as the ``with`` block lasts, if a profile is wanted."""

    def __init__(self, options: Options, worker: Worker, name: str) -> None:
        suffix = "svg" if options.profile == "svg" else "folded"
        self.path = options.results / f"{name}.{suffix}"
        self._format = "flamegraph" if options.profile == "svg" else "raw"
        self._wanted = bool(options.profile)
        self._pid = worker.process.pid
        self._spy: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            spy = Path(sys.executable).with_name("py-spy")
            if not spy.exists():
                raise RuntimeError("py-spy is not installed: make install")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._spy = subprocess.Popen(
                [str(spy), "record", "--pid", str(self._pid), "--output", str(self.path),
                 "--format", self._format, "--rate", "250", "--duration", "3600"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._spy is not None:
            self._spy.send_signal(signal.SIGINT)
            self._spy.wait(60)
            say(f"profile: {self.path}")


async def measured(
    work: Coroutine[Any, Any, None], worker: Worker | Workers, stand: Stand, events: int
) -> dict[str, float]:
    """Does ``work`` and says what it took, for ``events``: rates, CPU and memory."""
    cpu, broker_cpu, waited_s = worker.cpu_s(), stand.broker_cpu_s(), worker.waited_s()
    began = time.perf_counter()
    await work
    seconds = time.perf_counter() - began
    per_100_000 = 100_000 / events
    return {
        "events_per_second": events / seconds,
        "seconds": seconds,
        "cpu_s_per_100_000": (worker.cpu_s() - cpu) * per_100_000,
        "broker_cpu_s_per_100_000": (stand.broker_cpu_s() - broker_cpu) * per_100_000,
        # Near 0 on a quiet machine; else the rate says less of the worker than of its neighbours.
        "waited_for_a_core_share": (worker.waited_s() - waited_s) / seconds,
        "rss_mb": worker.rss_bytes() / 2**20,
    }
