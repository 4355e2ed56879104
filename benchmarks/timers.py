"""Digests of everyone, due at the same instant: how fast they close, and how late the last are.

The open digests are laid into the changelog, restored by the decide workers, and fall due while
these wait for them. Lateness is from the due time to the moment Kafka took the digest's delivery.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.delivering import percentile
from benchmarks.load import read_messages
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import (
    POLL_S,
    STALLED_S_MAX,
    Recording,
    Stand,
    Workers,
    now_ms,
    open_stand,
    say,
)
from benchmarks.state import Lives, lay
from streams import topics

DELIVERIES = topics.deliveries("apns")
LAY_PER_S, RESTORE_PER_S = 40_000, 20_000
"""Recipients a second that a slow machine lays and restores: it must be done before they are due.
"""
SPARE_MS = 30_000
WORKERS = 2
"""Of decide: one would leave the second core idle."""


async def all_closed(stand: Stand, workers: Workers, recipients: int) -> None:
    """Waits until there is a delivery for everyone."""
    moved_at, before = time.monotonic(), -1
    while True:
        ends = await stand.watch.ends((DELIVERIES,), stand.partitions)
        there = sum(ends.values())
        if there >= recipients:
            return
        workers.check()
        if there != before:
            moved_at, before = time.monotonic(), there
        elif time.monotonic() - moved_at > STALLED_S_MAX:
            raise RuntimeError(f"only {there:,} of {recipients:,} digests closed")
        await asyncio.sleep(POLL_S)


async def measure(options: Options) -> Figures:
    """One repeat."""
    recipients = options.size(options.recipients, 1_000_000, 20_000)
    async with open_stand(options.partitions or 16) as stand:
        ahead_ms = 1000 * recipients // LAY_PER_S + 1000 * recipients // RESTORE_PER_S + SPARE_MS
        due_ms = now_ms() + ahead_ms
        say(f"{recipients:,} digests, due in {ahead_ms / 1000:.0f} s")
        lives = Lives(recipients=recipients, at_ms=due_ms - 86_400_000, digest_due_ms=due_ms)
        await asyncio.to_thread(lay, stand.bootstrap, stand.partitions, lives)
        workers = stand.share("decide", options.workers or WORKERS)
        await workers.ready()
        spare_ms = due_ms - now_ms()
        if spare_ms < 0:
            raise RuntimeError(f"the workers were ready {-spare_ms} ms after the digests were due")
        await asyncio.sleep(spare_ms / 1000)
        cpu_s = workers.cpu_s()
        with Recording(options, workers.first, "timers"):
            await all_closed(stand, workers, recipients)
        cpu_s = workers.cpu_s() - cpu_s
        late = sorted(
            message.timestamp()[1] - due_ms
            for message in read_messages(stand.bootstrap, DELIVERIES)
        )
        await workers.stop()
    return {
        "closes_per_second": len(late) * 1000 / max(1, late[-1]),
        "lateness_first_ms": late[0],
        "lateness_p50_ms": percentile(late, 0.5),
        "lateness_p99_ms": percentile(late, 0.99),
        "lateness_max_ms": late[-1],
        "cpu_s_per_100_000": cpu_s * 100_000 / recipients,
        "digests": len(late),
        "digests_wrong": abs(len(late) - recipients),
    }


BENCHMARK = Benchmark(
    name="timers",
    what="digests of everyone, due at the same instant",
    run=in_a_loop(measure),
    goals=(Goal("closes_per_second", 30_000), Goal("digests_wrong", 0, at_least=False)),
)
