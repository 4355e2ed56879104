"""Topics, provider servers and worker processes of one test of the deliver role."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams import topics
from streams.codec import Codec
from streams.core.model import Delivery
from streams.engine.settings import EngineSettings
from streams.local.providers import ProviderServers, provider_servers
from streams.sinks.settings import DeliverSettings
from tests.agents.delivering import WorkerArguments, names_with
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
EXIT_DEADLINE_S = 60.0


class Worker:
    """One worker process; its log is in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.process = process
        self.log_path = log_path

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_status()

    async def exit_status(self) -> int:
        await eventually(lambda: self.process.poll() is not None, EXIT_DEADLINE_S)
        return int(self.process.returncode)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


class DeliverBench:
    """Everything that one test needs."""

    def __init__(self, bootstrap: str, folder: Path, servers: ProviderServers) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.servers = servers
        self.suffix = "-" + uuid.uuid4().hex[:12]
        self.names = names_with(self.suffix)
        self.codec = Codec()
        self.workers: list[Worker] = []
        self.producer: Any = None
        self._consumer: Any = None
        self._known: dict[str, list[Any]] = {}
        self._outcomes: list[dict[str, Any]] = []
        self.engine = EngineSettings(
            bootstrap=bootstrap,
            application=f"flowstate{self.suffix}",
            partitions=1,
            web_enabled=False,
            session_timeout_ms=6_000,
            heartbeat_ms=1_000,
        )
        self.deliver = DeliverSettings(providers=servers.settings(), partitions=1, lease_ms=3_000)

    async def open(self) -> None:
        """Connects."""
        await self.make_topics()
        self.producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        await self.producer.start()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed",
        )  # fmt: skip
        await self._consumer.start()

    async def close(self) -> None:
        """Ends every worker and disconnects."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        if self.producer is not None:
            await self.producer.stop()
        if self._consumer is not None:
            await self._consumer.stop()

    async def make_topics(self) -> None:
        """Every topic of the role, one partition each."""
        names = self.names
        every = [names.deliveries(kind, c) for kind in topics.KINDS for c in (True, False)]
        every += [names.outcomes, names.feedback, names.receipts, names.dead_letters]
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            config = {"cleanup.policy": "compact"}
            made = await admin.create_topics(
                [NewTopic(name, 1, 1) for name in every]
                + [NewTopic(names.kill_switch, 1, 1, topic_configs=config)]
            )
            assert not [error for error in made.topic_errors if error[1]], made
        finally:
            await admin.close()

    def start(self, crash_point: str = "", name: str = "first", **changes: Any) -> Worker:
        """A worker with a data folder per name; ``changes`` are to its deliver settings."""
        deliver = msgspec.structs.replace(self.deliver, **changes)
        engine = msgspec.structs.replace(self.engine, data_folder=str(self.folder / name))
        arguments = WorkerArguments(self.suffix, engine, deliver)
        log_path = self.folder / f"worker-{len(self.workers)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.agents.delivering",
                 msgspec.json.encode(arguments).decode()],
                cwd=ROOT, stdout=log, stderr=log,
                env={"PATH": "/usr/bin:/bin", "FLOWSTATE_CRASH_POINT": crash_point},
            )  # fmt: skip
        worker = Worker(process, log_path)
        self.workers.append(worker)
        return worker

    async def send(self, deliveries: Iterable[Delivery]) -> None:
        """Appends deliveries to their topics; acknowledged when this returns."""
        sends = []
        base = f"http://127.0.0.1:{self.servers.ports.http}"
        paths = {"webhook": "/webhooks/1", "webpush": "/push/1", "chat": "/services/1"}
        for given in deliveries:
            path = paths.get(given.kind)
            delivery = msgspec.structs.replace(given, address=base + path) if path else given
            topic = self.names.deliveries(delivery.kind, delivery.priority == "critical")
            sends.append(
                await self.producer.send(
                    topic, key=delivery.recipient_id.encode(), partition=0,
                    value=self.codec.encode_delivery(delivery),
                )
            )  # fmt: skip
        await asyncio.gather(*sends)

    async def switch(self, scope: str, active: bool) -> None:
        """Appends a kill switch."""
        value = {"scope": scope, "active": active, "reason": "test", "set_by": "test"}
        await self.producer.send_and_wait(
            self.names.kill_switch, key=scope.encode(),
            value=self.codec.encode("kill_switch", {**value, "set_at_ms": 1}),
        )  # fmt: skip

    async def read(self, topic: str) -> list[Any]:
        """Every record of a topic; only what is new is fetched."""
        where = TopicPartition(topic, 0)
        known = self._known.setdefault(topic, [])
        end = (await self._consumer.end_offsets([where]))[where]
        next_offset = known[-1].offset + 1 if known else 0
        if next_offset < end:
            self._consumer.assign([where])
            self._consumer.seek(where, next_offset)
            while await self._consumer.position(where) < end:
                known += (await self._consumer.getmany(where, timeout_ms=1_000)).get(where, [])
        return known

    async def outcomes(self) -> list[dict[str, Any]]:
        """All outcomes, decoded."""
        records = await self.read(self.names.outcomes)
        new = records[len(self._outcomes) :]
        self._outcomes += [self.codec.decode("outcome", record.value) for record in new]
        return self._outcomes

    async def committed(self, kind: str) -> int:
        """The committed position of a kind's normal topic; -1 for none."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            where = TopicPartition(self.names.deliveries(kind, False), 0)
            group = f"{self.engine.application}-deliver"
            found = await admin.list_consumer_group_offsets(group, partitions=[where])
            return int(found[where].offset)
        finally:
            await admin.close()

    async def feedback(self) -> list[dict[str, Any]]:
        """All feedback, decoded."""
        return [
            self.codec.decode("feedback", record.value)
            for record in await self.read(self.names.feedback)
        ]

    async def answered(self, count: int, deadline_s: float = 90.0) -> list[dict[str, Any]]:
        """Outcomes, once there are at least ``count``; fails at once when the worker has died."""

        async def enough() -> list[dict[str, Any]] | None:
            worker = self.workers[-1]
            assert worker.process.poll() is None, worker.log()
            outcomes = await self.outcomes()
            return outcomes if len(outcomes) >= count else None

        found = await eventually(enough, deadline_s)
        assert found is not None
        return list(found)

    def received(self) -> list[dict[str, Any]]:
        """What the provider servers took, from their own record."""
        path = self.folder / "providers" / "received.jsonl"
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


@asynccontextmanager
async def make_deliver_bench(
    bootstrap: str, folder: Path, retry_share: float = 0.0
) -> AsyncIterator[DeliverBench]:
    """A bench, cleaned up at the end."""
    async with provider_servers(folder / "providers", retry_share=retry_share) as servers:
        bench = DeliverBench(bootstrap, folder, servers)
        try:
            await bench.open()
            yield bench
        finally:
            await bench.close()
