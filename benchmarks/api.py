"""What one ``api`` process takes: events a second, latency at half of that, memory.

Starts a Kafka and one API process of its own on this machine, sends events over HTTP (in batches,
then one by one) and writes one JSON object. Client, API and broker share the machine's cores, so a
figure says more about the machine than about a server of its own.

    python -m benchmarks.api --seconds 5 --batch 100 --out api.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from streams import topics
from streams.engine.topics_admin import create_topics
from streams.local.broker import EmbeddedBroker
from streams.local.processes import ManagedProcess

PARTITIONS = 16
READY_S_MAX = 60.0
HEADERS = {"Content-Type": "application/json"}


def body_of(size: int) -> bytes:
    """A batch of new events, each for another recipient."""
    run = uuid.uuid4().hex
    return json.dumps(
        [
            {
                "event_id": f"{run}-{n}",
                "recipient_id": f"member-{run[:8]}-{n}",
                "category": "message",
                "created_at_ms": 1_700_000_000_000,
                "actor_id": "member-7",
                "data": {"sender": "Ann", "text": "How are you?"},
            }
            for n in range(size)
        ]
    ).encode()


async def send(session: aiohttp.ClientSession, url: str, size: int) -> float:
    """Milliseconds that one request took. Raises ``RuntimeError`` if it was not accepted."""
    body = body_of(size)
    began = time.perf_counter()
    async with session.post(url, data=body, headers=HEADERS) as answer:
        said = await answer.read()
    if answer.status != 202:
        raise RuntimeError(f"{answer.status}: {said[:300]!r}")
    return (time.perf_counter() - began) * 1000


async def sustained(url: str, size: int, senders: int, seconds: float) -> float:
    """Events a second with ``senders`` requests always under way."""
    count = 0
    end = time.perf_counter() + seconds

    async def loop(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await send(session, url, size)
            count += size

    began = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(loop(session) for _ in range(senders)))
    return count / (time.perf_counter() - began)


async def at_rate(url: str, size: int, events_per_second: float, seconds: float) -> dict[str, Any]:
    """Latency of requests sent at fixed times, whether or not earlier ones are answered."""
    interval_s = size / events_per_second
    total = max(1, int(seconds / interval_s))
    async with aiohttp.ClientSession() as session:
        began = time.perf_counter()
        tasks = []
        for number in range(total):
            due = began + number * interval_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(send(session, url, size)))
        taken = sorted(await asyncio.gather(*tasks))
    return {
        "events_per_second": round(events_per_second),
        "requests": total,
        "p50_ms": round(taken[len(taken) // 2], 2),
        "p99_ms": round(taken[min(len(taken) - 1, int(len(taken) * 0.99))], 2),
    }


async def measure(url: str, pid: int, batch: int, seconds: float) -> dict[str, Any]:
    """All figures of a running API."""
    process = psutil.Process(pid)
    found: dict[str, Any] = {}
    for name, size, senders in (("batches", batch, 8), ("singles", 1, 32)):
        await sustained(url, size, senders, 1.0)  # connections, caches
        used = process.cpu_times()
        began = time.perf_counter()
        rate = await sustained(url, size, senders, seconds)
        spent = time.perf_counter() - began
        now = process.cpu_times()
        cores = (now.user + now.system - used.user - used.system) / spent
        found[name] = {
            "events_per_request": size,
            "sustained_events_per_second": round(rate),
            "api_cores_used": round(cores, 2),
            "at_half": await at_rate(url, size, rate / 2, seconds),
        }
    found["rss_mb"] = round(process.memory_info().rss / 2**20, 1)
    return found


async def ready(url: str, process: ManagedProcess) -> None:
    """Waits until events are taken on every partition: new topics have no leaders at first."""
    end = time.monotonic() + READY_S_MAX
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            if process.returncode is not None:
                break
            try:
                async with session.get(url + "/health/ready") as answer:
                    is_up = answer.status == 200
                if is_up:
                    await send(session, url + "/v1/events", 50 * PARTITIONS)
                    return
            except (aiohttp.ClientError, RuntimeError):
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the API is not ready:\n" + process.output())


def listening(port: int) -> int:
    """The process that listens on a port: the API itself, and not what started it."""
    for each in psutil.net_connections("tcp"):
        if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN:
            assert each.pid is not None
            return each.pid
    raise RuntimeError(f"nothing listens on {port}")


def run(batch: int, seconds: float) -> dict[str, Any]:
    """Starts everything, measures, stops everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = EmbeddedBroker(folder / "kafka", port=0)
        broker.start()
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        process = None
        try:
            asyncio.run(create_topics(broker.bootstrap, topics.SPECS, PARTITIONS, 1, False))
            process = ManagedProcess(
                [sys.executable, "-c", "from streams.cli import main; main()", "worker", "api"],
                folder / "api.log",
                {
                    "FLOWSTATE_KAFKA__BOOTSTRAP": broker.bootstrap,
                    "FLOWSTATE_KAFKA__PARTITIONS": str(PARTITIONS),
                    "FLOWSTATE_API__PORT": str(port),
                    "FLOWSTATE_API__KEYS_FILE": str(folder / "none.json"),
                    "FLOWSTATE_API__KEY_LIMITS__REQUESTS_PER_SECOND": "1000000",
                    "FLOWSTATE_API__KEY_LIMITS__EVENTS_PER_SECOND": "0",
                    "FLOWSTATE_API__KEY_LIMITS__CONCURRENCY_MAX": "1000",
                },
            )
            url = f"http://127.0.0.1:{port}"
            asyncio.run(ready(url, process))
            pid = listening(port)
            found = asyncio.run(measure(url + "/v1/events", pid, batch, seconds))
        except RuntimeError as error:
            if process is not None:
                error.add_note(process.output()[-3_000:])
            raise
        finally:
            if process is not None:
                process.kill()
            broker.stop()
    load = os.getloadavg()[0]
    return {**found, "cores": os.cpu_count(), "load_average": round(load, 1)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(run(options.batch, options.seconds), indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
