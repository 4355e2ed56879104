"""Rows 1 to 4 and 17: workers that die, sleep, stop, come and go."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from typing import Any

import pytest

from streams import topics
from streams.engine.crash_points import BATCH_POINTS
from tests.faults.site import Site, under_load
from tests.faults.worker import Worker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
KILLED = -9
GUESTS = 3
"""So many are there at once, each for a quarter of a minute: time to take partitions over."""
DELIVER_POINTS = ("after_outcomes", "before_offset_commit")


async def die_at(site: Site, role: str, point: str, visit: int) -> None:
    """A worker dies at a named point of its protocol, and another takes its place."""
    worker = site.workers[role]
    if worker.alive:
        worker.kill()
    doomed = site.start(role, FLOWSTATE_CRASH_POINT=f"{point}:{visit}")
    assert await doomed.ended(90) == KILLED, doomed.log()[-3000:]
    since = time.monotonic()
    site.start(role)
    await site.running_again(since)


async def die_at_random(site: Site, role: str) -> None:
    """SIGKILL at a moment drawn from the seed."""
    await asyncio.sleep(site.load.draw.uniform(0.1, 2.5))
    site.workers[role].kill()
    since = time.monotonic()
    site.start(role)
    await site.running_again(since)


@pytest.mark.row("1a", "SIGKILL at each step of the batch protocol")
async def test_kill_at_each_step(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        for point in BATCH_POINTS:
            await die_at(site, "decide", point, site.load.draw.randint(1, 8))
        for point in DELIVER_POINTS:
            await die_at(site, "deliver", point, site.load.draw.randint(1, 8))
    await verdict()


@pytest.mark.row("1b", "SIGKILL at random moments, 20 times")
async def test_kill_at_random_moments(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        for _ in range(20):
            await die_at_random(site, site.load.draw.choice(("decide", "deliver")))
    await verdict()


@pytest.mark.faults_short
@pytest.mark.row("1c", "SIGKILL of each role, once")
async def test_kill_once(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        for role in ("decide", "deliver"):
            await die_at_random(site, role)
    await verdict()


async def sleep_through_session(site: Site, worker: Worker, others: list[Worker]) -> None:
    """SIGSTOP until the others have everything, then SIGCONT; it must do no harm and come back."""
    worker.signal(signal.SIGSTOP)
    since = time.monotonic()
    await site.running_again(since)
    await asyncio.sleep(1.0)  # the successor works for a while: that is the point
    worker.signal(signal.SIGCONT)


@pytest.mark.row("2", "SIGSTOP past the session, then SIGCONT")
async def test_zombie(site: Site, verdict: Any) -> None:
    await site.everybody()
    keeper = site.keep_running()
    seconds = [site.start(role, f"{role}-2") for role in ("decide", "deliver")]
    await site.ready(*seconds)
    site.send_ms += 60_000  # what a sleeper had begun to send leaves when it wakes up
    async with under_load(site):
        for role in ("decide", "deliver", "decide", "deliver"):
            await asyncio.sleep(site.load.draw.uniform(0.5, 2.0))
            await sleep_through_session(site, site.workers[role], seconds)
            await asyncio.sleep(2.0)
    await asyncio.sleep(1.0)
    finding = await site.judge()
    keeper.cancel()
    await verdict(finding, again_s_max=90.0)


@pytest.mark.row("3", "graceful stop under load, 6 times")
async def test_graceful_stop(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        for role in ("decide", "deliver") * 3:
            await asyncio.sleep(site.load.draw.uniform(0.5, 2.0))
            status = await site.workers[role].stop()
            assert status == 0, site.workers[role].log()[-3000:]
            since = time.monotonic()
            site.start(role)
            await site.running_again(since)
    finding = await site.judge()
    if finding.repeated or finding.allowed:
        finding.faults.append(f"{finding.repeated} repeated, {finding.allowed} in doubt")
    await verdict(finding)


async def leave(site: Site, guest: Worker) -> bool:
    """A guest leaves as it happens: dies or says goodbye. Whether it had done its share by then."""
    did = guest.alive and await site.is_ready(guest)
    guest.kill() if site.load.draw.random() < 0.5 else guest.signal(signal.SIGTERM)
    await guest.ended()
    return did


@pytest.mark.row("4", "a worker comes and goes every 5 s, 30 times")
async def test_rebalance_storm(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site, per_second=20):
        guests: deque[Worker] = deque()
        took_part = 0
        for number in range(30):
            role = ("decide", "deliver")[number % 2]
            guests.append(site.start(role, f"{role}-guest-{number % 6}"))
            await asyncio.sleep(5.0)
            if len(guests) >= GUESTS:
                took_part += await leave(site, guests.popleft())
        while guests:
            took_part += await leave(site, guests.popleft())
        await site.running_again(time.monotonic())
    assert took_part >= 15, f"only {took_part} of 30 guests had partitions before they left"
    await verdict(note=f"{took_part} of the 30 had taken partitions over before they left")


@pytest.mark.row("17a", "rolling restart of everything, one by one, twice")
async def test_rolling_restart(site: Site, verdict: Any) -> None:
    await site.everybody()
    more = [site.start(role, f"{role}-2") for role in ("decide", "deliver")]
    await site.ready(*more)
    async with under_load(site):
        for name in ("decide", "decide-2", "deliver", "deliver-2") * 2:
            worker = site.workers[name]
            assert await worker.stop() == 0, worker.log()[-3000:]
            since = time.monotonic()
            await site.ready(site.start(worker.role, name))
            await site.running_again(since)
    await verdict()


@pytest.mark.row("17b", "rolling upgrade to a release with more state, and back")
async def test_rolling_upgrade(site: Site, verdict: Any) -> None:
    await site.everybody()
    await site.ready(site.start("decide", "decide-2"))
    newer = "tests.faults.newer:newer"
    plan = (("decide", newer), ("decide-2", newer), ("decide", ""), ("decide-2", ""))
    async with under_load(site):
        for name, variant in plan:
            assert await site.workers[name].stop() == 0, site.workers[name].log()[-3000:]
            since = time.monotonic()
            await site.ready(site.start("decide", name, variant=variant))
            await site.running_again(since)
            await asyncio.sleep(1.0)
    evidence = await site.settled()
    changes = evidence.of((topics.STATE_CHANGELOG,))
    written = sum(b"written by a later release" in (change.value or b"") for change in changes)
    assert written, "nothing was written by the later release"
    await verdict(await site.judge(evidence, replay=False))
