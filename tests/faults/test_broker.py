"""Rows 5 and 6: the broker is restarted, dies, and is away for two minutes."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest

from streams import topics
from tests.faults.site import Finding, Site, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
AWAY_S = 120.0
FALSE_HOPE_S = 5.0
"""A request that was under way when the broker went may still be answered for so long."""


@pytest.mark.row("5a", "the broker is restarted in an orderly way, 3 times")
async def test_clean_restart(site: Site, verdict: Any) -> None:
    await verdict(await restarts(site, hard=False))


@pytest.mark.row("5b", "the broker is killed with SIGKILL, 3 times")
async def test_hard_restart(site: Site, verdict: Any) -> None:
    await verdict(await restarts(site, hard=True))


async def restarts(site: Site, *, hard: bool) -> Finding:
    """The broker goes and comes back under load; workers that give up are started again."""
    await site.everybody()
    keeper = site.keep_running()
    async with under_load(site):
        for _ in range(3):
            await asyncio.sleep(site.load.draw.uniform(0.5, 2.0))
            if hard:
                site.broker.kill()
            else:
                await site.broker.stop_async()
            await site.broker.start_async()
            await site.running_again(time.monotonic())
    finding = await site.judge()  # One may give up only now: its transaction took too long.
    keeper.cancel()
    return finding


class Caller:
    """Posts events to the API, one after the other, and remembers what was promised."""

    def __init__(self, site: Site, url: str) -> None:
        self._site = site
        self._url = f"{url}/v1/events"
        self.answers: list[tuple[float, int]] = []
        """(when it came, status); 0 for no answer at all."""
        self.promised: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until told."""
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stop.is_set():
                event = self._site.load.event()
                try:
                    async with session.post(self._url, json=event) as answer:
                        status, body = answer.status, await answer.read()
                except (aiohttp.ClientError, TimeoutError):
                    status, body = 0, b""
                self.answers.append((time.monotonic(), status))
                if status == 202:
                    self.promised.add(json.loads(body)["event_id"])
                await asyncio.sleep(0.1)

    def between(self, since: float, until: float) -> Counter[int]:
        """Statuses of answers that came between two moments."""
        return Counter(status for at, status in self.answers if since <= at <= until)


@pytest.mark.row("6", "the broker is away for 2 minutes")
async def test_broker_away(site: Site, verdict: Any) -> None:
    await site.everybody()
    api = site.start("api")
    await site.ready(api)
    keeper, stop = site.keep_running(), asyncio.Event()
    callers = [Caller(site, api.url) for _ in range(3)]
    calling = [asyncio.create_task(caller.run(stop)) for caller in callers]
    async with under_load(site, per_second=20):
        await asyncio.sleep(3.0)
        site.broker.kill()
        gone = time.monotonic()
        await asyncio.sleep(AWAY_S)
        await site.broker.start_async()
        back = time.monotonic()
        await site.running_again(back)
        await asyncio.sleep(3.0)
    stop.set()
    await asyncio.gather(*calling)
    finding = await site.judge()
    keeper.cancel()
    finding.faults += await false_promises(site, callers)
    for caller in callers:
        away = caller.between(gone + FALSE_HOPE_S, back - AWAY_S / 10)
        if set(away) != {503}:
            finding.faults.append(f"api: while the broker was away it answered {dict(away)}")
        if not caller.between(back, time.monotonic())[202]:
            finding.faults.append("api: nothing was accepted after the broker was back")
    await verdict(finding)


async def false_promises(site: Site, callers: list[Caller]) -> list[str]:
    """What was answered with 202 and is in no topic."""
    evidence = await site.evidence()
    kept = {
        site.codec.decode("event", record.value)["event_id"]
        for record in evidence.of(topics.EVENTS)
    }
    promised = set().union(*(caller.promised for caller in callers))
    lost = promised - kept
    return [f"api: {len(lost)} accepted events are in no topic"] if lost else []
