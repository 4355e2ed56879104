"""Runs counting workers (``counting.py``) as processes against the tests' broker and checks them.

Nothing here waits for a length of time: everything polls a condition with a deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.engine.crash_points import VARIABLE
from streams.engine.settings import EngineSettings
from tests.engine.counting import Names, WorkerArguments
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
EXIT_DEADLINE_S = 40.0


class Worker:
    """One worker process; its log is in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.process = process
        self.log_path = log_path

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    async def exit_status(self) -> int:
        await eventually(lambda: self.process.poll() is not None, EXIT_DEADLINE_S)
        return int(self.process.returncode)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_status()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Bench:
    """Topics, workers and checks of one test."""

    def __init__(self, names: Names, settings: EngineSettings, folder: Path) -> None:
        self.names = names
        self.settings = settings
        self.folder = folder
        self.workers: list[Worker] = []
        self.sent: Counter[bytes] = Counter()
        self.producer: Any = None

    # -- workers

    def start(
        self,
        crash_point: str = "",
        name: str = "a",
        module: str = "tests.engine.counting",
        **changes: Any,
    ) -> Worker:
        """A worker with its own data folder per name."""
        own = {"data_folder": str(self.folder / name), "worker_name": name, **changes}
        settings = msgspec.structs.replace(self.settings, **own)
        arguments = msgspec.json.encode(WorkerArguments(self.names, settings)).decode()
        log_path = self.folder / f"worker-{len(self.workers)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, arguments],
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, VARIABLE: crash_point},
            )  # fmt: skip
        worker = Worker(process, log_path)
        self.workers.append(worker)
        return worker

    # -- records

    async def send(
        self, topic: str, count: int, keys: int = 20, value: bytes = b"x", **arguments: Any
    ) -> None:
        """``count`` records over ``keys`` keys, acknowledged when this returns."""
        sends = []
        for number in range(count):
            key = b"key-%d" % (number % keys)
            partition = (number % keys) % self.settings.partitions
            sends.append(
                await self.producer.send(
                    topic, key=key, value=value, partition=partition, **arguments
                )
            )
            if topic in (self.names.critical, self.names.normal, self.names.bulk):
                self.sent[key] += 1
        await asyncio.gather(*sends)

    async def outputs(self) -> list[Any]:
        """Everything committed to the output topic."""
        return await read_all(self.settings, self.names.out)

    async def settled(self, count: int, deadline_s: float = 40.0) -> list[Any]:
        """The outputs, once there are at least ``count``."""

        async def enough() -> list[Any] | None:
            self.check_alive()
            outputs = await self.outputs()
            return outputs if len(outputs) >= count else None

        outputs: list[Any] | None = await eventually(enough, deadline_s)
        assert outputs is not None
        return outputs

    def check_alive(self) -> None:
        """Fails at once, with its log, when a worker that should run has died."""
        for worker in self.workers[-1:]:
            status = worker.process.poll()
            assert status in (None, 0), worker.log()[-3000:]

    def check_counts(self, outputs: Sequence[Any]) -> None:
        """Each key was counted 1, 2, 3, ... up to what was sent: nothing lost, nothing twice."""
        seen: defaultdict[bytes, list[int]] = defaultdict(list)
        for record in outputs:
            if record.value.startswith(b"count:"):
                seen[record.key].append(int(record.value.split(b":")[1]))
        assert {key: sorted(counts) for key, counts in seen.items()} == {
            key: list(range(1, total + 1)) for key, total in self.sent.items()
        }

    async def state(self) -> dict[bytes, bytes]:
        """What the changelog says the counts are."""
        state: dict[bytes, bytes | None] = {}
        for record in await read_all(self.settings, self.names.changelog):
            if record.key.startswith(b"a"):
                state[record.key[1:]] = record.value
        return {key: value for key, value in state.items() if value is not None}

    async def check_state(self) -> None:
        """The changelog holds exactly the counts of what was sent."""
        assert await self.state() == {key: b"%d" % total for key, total in self.sent.items()}


async def read_all(settings: EngineSettings, topic: str) -> list[Any]:
    """Every committed record of a topic, up to its last stable offset now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        for tp, end in ends.items():
            while await consumer.position(tp) < end:
                for batch in (await consumer.getmany(tp, timeout_ms=200)).values():
                    records += batch
        return records
    finally:
        await consumer.stop()


@asynccontextmanager
async def make_bench(
    bootstrap: str, kafka_topics: Any, folder: Path, partitions: int = 2, **changes: Any
) -> AsyncIterator[Bench]:
    """A bench with topics of its own; ends what it started."""
    stream = changes.get("clock") == "stream"
    time_type = "CreateTime" if stream else "LogAppendTime"
    config = {"message.timestamp.type": time_type, "retention.ms": "-1"}
    if stream:
        config["message.timestamp.before.max.ms"] = str((1 << 63) - 1)
    created = [
        await kafka_topics.create(name, partitions, config)
        for name in ("control", "critical", "normal", "bulk", "ticks", "out")
    ]
    changelog = await kafka_topics.create(
        "changelog", partitions, {"cleanup.policy": "compact,delete", "retention.ms": "-1"}
    )
    control, critical, normal, bulk, ticks, out = created
    names = Names(control, critical, normal, bulk, ticks, out, changelog)
    settings = EngineSettings(
        bootstrap=bootstrap,
        application=created[0],
        partitions=partitions,
        data_folder=str(folder),
        web_enabled=False,
        session_timeout_ms=6_000,
        heartbeat_ms=1_000,
        block_cache_bytes=8 << 20,
        write_buffer_bytes=8 << 20,
        **changes,
    )
    bench = Bench(names, settings, folder)
    bench.producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2)
    await bench.producer.start()
    try:
        yield bench
    finally:
        await bench.producer.stop()
        for worker in bench.workers:
            if worker.process.poll() is None:
                worker.kill()
