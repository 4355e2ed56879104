"""What one ``deliver`` worker sends: consume, render, send, outcome acknowledged, position moved.

For each HTTP sink a backlog of deliveries is laid behind a gate and opened; measured is the time
until the group has committed all of it, which it does only for what is answered durably. The
provider is ``null_provider.py``, in a process of its own on the same machine.

Then an outage: the provider refuses everything for a while (ten minutes; seconds with ``--quick``,
or ``--seconds``), the breaker holds the backlog, and the time from the provider's return until
nothing waits is measured. What was refused before the breaker opened goes back to DECIDE, which is
not part of this; it is counted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from benchmarks.load import Gate
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import Recording, Stand, Worker, measured, open_stand, say
from streams import topics
from streams.codec import Codec
from streams.configuration.shape import table_of
from streams.core.model import CHANNEL_OF_KIND, Delivery
from streams.local.authority import Identity, identity, subscription
from streams.local.processes import free_port
from streams.local.providers import Ports, provider_settings
from streams.local.toml_text import merged, toml_text
from streams.settings import default_path

GROUP = "flowstate-deliver"
KINDS = ("apns", "fcm", "sms", "webhook", "webpush", "chat")
"""The HTTP sinks. ``sms`` is Twilio: Vonage is its stand-by."""
SLOWER = {"sms": 0.4, "webhook": 0.4, "webpush": 0.2, "chat": 0.4}
"""Share of the load for sinks that take longer."""
OUTAGE_PER_SECOND = 200
READY_S_MAX = 30.0


class NullProvider:
    """The provider's process."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.null_provider", str(folder)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.http2, self.http1 = json.loads(self._process.stdout.readline())

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    async def say(self, what: str) -> int:
        """``away``, ``back`` or ``count``; how many requests it has answered."""
        url = f"http://127.0.0.1:{self.http1}/{what}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return int(await answer.text())

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def configuration(known: Identity, provider: NullProvider) -> str:
    """A worker's configuration that sends everything to the null provider."""
    ports = Ports(apns=provider.http2, http=provider.http1, smtp=1)
    settings: dict[str, Any] = {
        one.name: table_of(one) for one in provider_settings(known, ports) if one.name != "smtp"
    }
    settings["slack"]["destination_interval"] = "0ms"
    # As Google's: over HTTP/2 and TLS. Its tokens come from where they came.
    settings["fcm"]["endpoint"] = f"https://127.0.0.1:{provider.http2}"
    settings["fcm"]["http"] = settings["apns"]["http"]
    base = tomllib.loads(default_path().read_text(encoding="utf-8"))
    return toml_text(merged(base, {"providers": settings}), "One run of a benchmark.")


def deliveries(
    kind: str, count: int, run: int, known: Identity, provider: NullProvider
) -> Iterator[Delivery]:
    """``count`` deliveries of a kind, each to another recipient."""
    base = f"http://127.0.0.1:{provider.http1}"
    addresses = {
        "apns": "ab" * 32, "fcm": "fcm-" + "x" * 150, "sms": "+351912345678",
        "webhook": f"{base}/webhooks/1", "webpush": f"{base}/push/1", "chat": f"{base}/services/1",
    }  # fmt: skip
    attributes = subscription(known) if kind == "webpush" else {}
    now_ms = time.time_ns() // 1_000_000
    plain = Delivery(
        delivery_id="", notification_id="", recipient_id="", category="message",
        priority="normal", channel=CHANNEL_OF_KIND[kind],
        kind=kind,  # type: ignore[arg-type]
        destination_id="device-1", address=addresses[kind], attributes=attributes,
        registered_at_ms=1, template="", locale="en", data={"sender": "Ann", "text": "Hello there"},
        event_id="", digest_key=None, count=1, actors=1, items=(), collapse_key=None, step=0,
        attempt=1, epoch=0, created_at_ms=now_ms, appended_at_ms=now_ms, decided_at_ms=now_ms,
        valid_until_ms=1 << 45, expires_at_ms=1 << 45, on_ambiguous="resend", campaign=None,
        policy_version="bench",
    )  # fmt: skip
    for number in range(count):
        identity_ = f"000{run:05x}{KINDS.index(kind):04x}{number:020x}"
        yield msgspec.structs.replace(
            plain, delivery_id=identity_, notification_id=identity_,
            recipient_id=f"member-{run}-{number}", event_id=f"event-{run}-{number}",
        )  # fmt: skip


class Bench:
    """One repeat: a stand, the provider and one worker."""

    def __init__(self, stand: Stand, provider: NullProvider, known: Identity) -> None:
        self.stand = stand
        self.provider = provider
        self.known = known
        self.codec = Codec()
        self.run = 0

    def worker(self) -> Worker:
        """A deliver worker that sends to the null provider."""
        path = self.stand.folder / "deliver.toml"
        path.write_text(configuration(self.known, self.provider))
        port = free_port()
        environment = {
            "FLOWSTATE_KAFKA__BOOTSTRAP": self.stand.bootstrap,
            "FLOWSTATE_KAFKA__PARTITIONS": str(self.stand.partitions),
            "FLOWSTATE_DATA_FOLDER": str(self.stand.folder / "deliver"),
            "FLOWSTATE_ENGINE__WEB_PORT": str(port),
        }
        command = ["-m", "streams.cli", "worker", "deliver", "--config", str(path)]
        return self.stand.start("deliver", command, environment, port)

    def records(self, kind: str, count: int) -> Iterator[tuple[str, bytes, bytes]]:
        """(topic, key, value) of new deliveries."""
        self.run += 1
        topic = topics.deliveries(kind, False)
        for one in deliveries(kind, count, self.run, self.known, self.provider):
            yield topic, one.recipient_id.encode(), self.codec.encode_delivery(one)

    async def send(self, worker: Worker, kind: str, count: int) -> Figures:
        """Rate and CPU of one sink."""
        topic = topics.deliveries(kind, False)
        with Gate(self.stand.bootstrap) as gate:
            gate.fill(self.records(kind, count))
            targets = await self.stand.watch.ends((topic,), self.stand.partitions)
            work = self.stand.work_off(gate, GROUP, targets, worker)
            found = await measured(work, worker, self.stand, count)
        return {
            "per_second": found["events_per_second"],
            "cpu_us": found["cpu_s_per_100_000"] * 10,
        }

    async def outage(self, worker: Worker, seconds: float) -> Figures:
        """What an outage of so many seconds leaves, and how soon it is made up for."""
        topic = topics.deliveries("apns", False)
        await self.provider.say("away")
        end = time.monotonic() + seconds
        offered = 0
        while time.monotonic() < end:
            with Gate(self.stand.bootstrap) as gate:
                offered += gate.fill(self.records("apns", OUTAGE_PER_SECOND))
                gate.open()
            await asyncio.sleep(1.0)
        feedback = await self.stand.watch.ends((topics.FEEDBACK,), self.stand.partitions)
        targets = await self.stand.watch.ends((topic,), self.stand.partitions)
        before = await self.provider.say("back")
        began = time.perf_counter()
        await self.stand.until_consumed(GROUP, targets, worker)
        took_s = time.perf_counter() - began
        sent = await self.provider.say("count") - before
        return {
            "outage_seconds": seconds,
            "outage_deliveries": offered,
            "outage_handed_back": sum(feedback.values()),
            "recovery_seconds": took_s,
            "recovery_per_second": sent / took_s,
        }


async def measure(options: Options) -> Figures:
    """One repeat."""
    count = options.size(options.events, 100_000, 10_000)
    outage_s = options.size(options.seconds, 600, 15)
    figures: Figures = {}
    async with open_stand(options.partitions or 16) as stand:
        folder = stand.folder / "identity"
        known, provider = identity(folder), NullProvider(folder)
        try:
            bench = Bench(stand, provider, known)
            worker = bench.worker()
            await worker.ready()
            for kind in KINDS:
                await bench.send(worker, kind, count // 20)  # connections, caches, tokens
                say(f"{kind}")
                with Recording(options, worker, f"deliver-{kind}"):
                    found = await bench.send(worker, kind, int(count * SLOWER.get(kind, 1.0)))
                figures |= {f"{kind}_{name}": value for name, value in found.items()}
            say(f"an outage of {outage_s} s")
            figures |= await bench.outage(worker, outage_s)
            figures["rss_mb"] = worker.rss_bytes() / 2**20
            await worker.stop()
        finally:
            provider.kill()
    return figures


BENCHMARK = Benchmark(
    name="deliver",
    what="one deliver worker: consume, render, send, outcome acknowledged; recovery of an outage",
    run=in_a_loop(measure),
    goals=(Goal("apns_per_second", 10_000), Goal("recovery_seconds", 60, at_least=False)),
)
