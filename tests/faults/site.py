"""A whole installation on this machine that a test may break: Kafka, providers, workers, a load.

Every part is a process of its own, started from the command line that an operator would use. At
the end ``settled`` waits until nothing is left to do, and ``judge`` puts the three ledgers side by
side: what producers had acknowledged, what was decided, what providers received.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiokafka.errors import KafkaError

from streams import settings, topics
from streams.codec import Codec
from streams.configuration.shape import table_of
from streams.engine.topics_admin import create_topics
from streams.local.authority import identity
from streams.local.broker import EmbeddedBroker
from streams.local.processes import ManagedProcess, free_port
from streams.local.progress import ProgressReader
from streams.local.providers import Ports, provider_settings
from streams.local.toml_text import merged, toml_text
from streams.simulation.checks import all_checks, books, repeat_counts
from streams.simulation.evidence import Allowance, Evidence, Reception
from streams.simulation.replay import Replay
from tests.eventually import eventually
from tests.faults import reading
from tests.faults.load import Load
from tests.faults.worker import Worker

PARTITIONS = 4
PROVIDERS = ("apns", "twilio", "smtp", "webhook")
HERE = Path(__file__).parent
REST_S_MAX = 150.0
"""Longer than anything of the configuration waits, on a machine that others use too."""
SOON_MS = 120_000
"""A timer that is due later than this is not waited for."""
STALE_MS = 30_000
SEND_MS = 15_000


class Finding(msgspec.Struct):
    """What came of one row."""

    faults: list[str]
    events: int
    lost: int
    repeated: int
    allowed: int


class Site:
    """See the module's text. Made by ``open_site``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.broker = EmbeddedBroker(folder / "kafka", port=0)
        self.workers: dict[str, Worker] = {}
        self.ports = Ports(free_port(), free_port(), free_port())
        self.registry_port = free_port()
        self.provider: ManagedProcess | None = None
        self.config = folder / "flowstate.toml"
        self.codec = Codec()
        self.load: Load = None  # type: ignore[assignment]
        self.ahead_ms = 0
        """How far the site's clock is ahead of the test's."""
        self.send_ms = SEND_MS
        self.stale_ms = STALE_MS
        self.again_s: list[float] = []
        """Seconds from each fault until all partitions decided again."""

    # -- life

    async def open(self, **over: Any) -> None:
        """Broker, topics, provider, configuration, load; no workers yet."""
        await self.broker.start_async()
        self.configure(**over)
        await create_topics(self.broker.bootstrap, topics.SPECS, PARTITIONS, 1, False, {})
        self.start_provider()
        webhooks = f"http://127.0.0.1:{self.ports.http}/webhooks"
        self.load = await Load(self.broker.bootstrap, PARTITIONS, self.seed, webhooks).__aenter__()

    async def close(self) -> None:
        """Ends everything."""
        for worker in self.workers.values():
            worker.kill()
        if self.provider is not None:
            self.provider.kill()
        if self.load is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self.load.__aexit__(), 20)
        await self.broker.stop_async()

    def configure(self, **over: Any) -> None:
        """Writes the configuration; ``over`` is laid over it table by table."""
        known = identity(self.folder / "provider" / "identity")
        http = {"request_max": "5s", "connect_max": "2s"}
        providers = {
            one.name: merged(
                table_of(one), {"http": http, "breaker": {"open": "1s", "open_max": "4s"}}
            )
            for one in provider_settings(known, self.ports)
            if one.name in PROVIDERS
        }
        base = tomllib.loads((HERE / "flowstate.toml").read_text())
        own = {
            "kafka": {"bootstrap": self.broker.bootstrap, "partitions": PARTITIONS,
                      "replication": 1},
            "providers": providers,
        }  # fmt: skip
        self.config.write_text(toml_text(merged(merged(base, own), over)))
        self.settings = settings.load(self.config)

    def start_provider(self) -> None:
        """The receiving side; what it has received stays from one start to the next."""
        ports = (self.ports.http, self.ports.apns, self.ports.smtp)
        command = [sys.executable, "-m", "tests.faults.provider", str(self.folder / "provider"),
                   *map(str, ports)]  # fmt: skip
        self.provider = ManagedProcess(command, self.folder / "logs" / "provider.log")

    async def faults(self, **modes: str) -> None:
        """What is to go wrong at the providers from now on; nothing that is not named."""
        url = f"http://127.0.0.1:{self.ports.http}/faults"

        async def told() -> bool:
            try:
                async with aiohttp.ClientSession() as client, client.post(url, json=modes) as got:
                    return got.status == 200
            except aiohttp.ClientError:
                return False

        await eventually(told)

    # -- workers

    def start(self, role: str, name: str = "", *, variant: str = "", **environment: str) -> Worker:
        """Starts a worker. ``environment``: variables; ``variant``: ``MODULE:ARGUMENT``
        to run in the product's place."""
        name = name or role
        port = free_port()
        module = variant.split(":") if variant else ["streams.cli"]
        command = [sys.executable, "-m", *module, "worker", role, "--config", str(self.config)]
        env = {
            "FLOWSTATE_DATA_FOLDER": str(self.folder / "data" / name),
            "FLOWSTATE_ENGINE__WORKER_NAME": name,
            "FLOWSTATE_ENGINE__WEB_PORT": str(port),
            "FLOWSTATE_API__PORT": str(port),
            **environment,
        }
        process = ManagedProcess(command, self.folder / "logs" / f"{name}.log", env)
        worker = self.workers[name] = Worker(name, role, process, port, environment)
        return worker

    async def ready(self, *workers: Worker, deadline_s: float = 90.0) -> None:
        """Until these workers do their share."""
        for worker in workers:
            await eventually(partial(self.is_ready, worker), deadline_s)

    async def is_ready(self, worker: Worker) -> bool:
        """Whether a worker has all of its partitions at work."""
        assert worker.alive, f"{worker.name} ended: {worker.log()[-3000:]}"
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            url = f"{worker.url}/health/ready"
            async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def everybody(self, **environment: str) -> None:
        """One worker of each role that delivering needs, and the people signed up."""
        workers = [self.start(role, **environment) for role in ("decide", "deliver")]
        await self.ready(*workers)
        await self.load.sign_up()

    def keep_running(self) -> asyncio.Task[None]:
        """Starts again whatever ends, as a supervisor outside would, until cancelled."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(0.2)
                for name, worker in tuple(self.workers.items()):
                    if not worker.alive:
                        self.start(worker.role, name, **worker.environment)

        return asyncio.create_task(keep())

    @property
    def broker_alive(self) -> bool:
        """Whether its process runs."""
        process = self.broker._process
        return process is not None and process.returncode is None

    # -- how far it is

    async def decided(self) -> dict[int, int]:
        """Partition -> end of ``decisions``."""
        return await reading.ends(self.broker.bootstrap, topics.DECISIONS, PARTITIONS)

    async def running_again(self, since: float, deadline_s: float = 120.0) -> float:
        """Seconds since ``since`` (monotonic) until every partition decides; needs a load."""
        before = await self.decided()

        async def moved() -> bool:
            try:
                now = await self.decided()
            except KafkaError:
                return False  # the broker is the one that is gone
            return all(now[number] > before[number] for number in before)

        await eventually(moved, deadline_s)
        self.again_s.append(time.monotonic() - since)
        return self.again_s[-1]

    async def all_decided(self, deadline_s: float = 60.0) -> None:
        """Until decide has read everything that is there now."""
        async with ProgressReader({"bootstrap_servers": self.broker.bootstrap}, PARTITIONS) as one:

            async def read() -> bool:
                return (await one.read()).lag("decide") == 0

            await eventually(read, deadline_s)

    async def settled(self, deadline_s: float = REST_S_MAX) -> Evidence:
        """Waits until nothing is left to do. Returns the evidence; whatever is still open in it
        after the deadline is for ``judge`` to tell."""
        deadline = time.monotonic() + deadline_s
        client = {"bootstrap_servers": self.broker.bootstrap}
        while True:
            async with ProgressReader(client, PARTITIONS) as reader:
                await self._until_rest(reader, deadline)
            evidence = await self.evidence()
            soon_ms = time.time_ns() // 1_000_000 + self.ahead_ms + SOON_MS
            at_rest = not books(evidence).still_open and not reading.will_wake(evidence, soon_ms)
            # What moved while it was read is not in all of it.
            still = len(evidence.receptions) == len(self.receptions())
            if (at_rest and still) or time.monotonic() > deadline:
                return evidence
            await asyncio.sleep(0.5)

    async def _until_rest(self, reader: ProgressReader, deadline: float) -> None:
        quiet = 0
        before: Any = None
        while quiet < 4 and time.monotonic() < deadline:
            with contextlib.suppress(KafkaError):
                progress = await reader.read()
                lag = progress.lag("decide") + progress.lag("deliver")
                same = lag == 0 and progress.ends == before
                quiet, before = (quiet + 1 if same else 0), progress.ends
            await asyncio.sleep(0.25)

    # -- what is left

    async def evidence(self) -> Evidence:
        """Everything that is in the log and in the providers' ledger now."""
        receptions = self.receptions()
        records = await reading.everything(self.broker.bootstrap, PARTITIONS)
        taken = await reading.taken(self.broker.bootstrap)
        return Evidence(
            records, taken, receptions, self.settings.policy, self.codec, PARTITIONS,
            Allowance(self.stale_ms, self.send_ms),
        )  # fmt: skip

    def receptions(self) -> list[Reception]:
        """The providers' ledger."""
        path = self.folder / "provider" / "received.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=Reception) for line in lines]

    async def judge(self, evidence: Evidence | None = None, replay: bool = True) -> Finding:
        """Everything that is wrong, and the numbers of the row."""
        evidence = evidence or await self.settled()
        faults = all_checks(evidence)
        kept = {
            (record.topic, record.partition, record.offset)
            for records in evidence.records.values()
            for record in records
        }
        lost = [place for place in self.load.acknowledged if place not in kept]
        faults += [f"input: {len(lost)} acknowledged records are gone: {lost[:3]}"] if lost else []
        if replay:
            faults += self._replayed(evidence)
        repeated, doubtful = repeat_counts(evidence)
        report = books(evidence)
        return Finding(faults, report.accepted, len(lost) + report.remainder, repeated, doubtful)

    def _replayed(self, evidence: Evidence) -> list[str]:
        faults = []
        for partition in range(PARTITIONS):
            changelog = evidence.records.get((topics.STATE_CHANGELOG, partition), ())
            most = self.settings.engine.wake_owners_max
            replay = Replay(evidence, partition, changelog, most)
            faults += [f"replay: {text}" for text in replay.differences()]
        return faults


@contextlib.asynccontextmanager
async def open_site(folder: Path, seed: int, **over: Any) -> AsyncIterator[Site]:
    """A site that is up but for its workers; ends everything it started."""
    site = Site(folder, seed)
    try:
        await site.open(**over)
        yield site
    finally:
        await site.close()


@contextlib.asynccontextmanager
async def under_load(site: Site, per_second: int = 40) -> AsyncIterator[None]:
    """Events keep coming while this lasts."""
    stop = asyncio.Event()
    sending = asyncio.create_task(site.load.steady(stop, per_second))
    try:
        yield
    finally:
        stop.set()
        await sending


def seed_of_run() -> int:
    """``SEED`` of the environment."""
    return int(os.environ.get("SEED", "1"))
