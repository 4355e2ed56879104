"""What a critical event waits while a bulk backlog is worked off, beside what it waits when idle.

First critical events alone, at a low steady rate; then a bulk backlog is laid while no decide
worker runs, the worker comes back, and the same critical events are offered again. ``bulk_left``
says how much of the backlog was still there at the end: it must not be 0.
"""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from benchmarks import people
from benchmarks.delivering import (
    GROUPS,
    DeliveringStand,
    batch_figures,
    latencies,
    latency_figures,
    offered,
    open_delivering,
)
from benchmarks.load import fill
from benchmarks.offer import Offer
from benchmarks.report import Benchmark, Figures, Goal, Options
from benchmarks.stand import now_ms, say
from streams import topics

RATE = 100.0
WARM_S = 2.0


async def critical(running: DeliveringStand, prefix: str, offer: Offer) -> Figures:
    """Offers critical events; their latencies."""
    batches, waited_s = await running.batches(), running.decide.waited_s()
    given = await offered(running.stand, offer)
    more = batch_figures(batches, await running.batches())
    left = await bulk_left(running)
    await running.drained(critical_only=True)
    found, _ = latencies(
        running.stand.bootstrap, given.began_ms + int(WARM_S * 1000), given.ended_ms
    )
    figures = latency_figures({k: v for k, v in found.items() if "critical" in k}, prefix)
    span_s = (given.ended_ms - given.began_ms) / 1000
    waited_s = running.decide.waited_s() - waited_s
    figures[f"{prefix}decide_waited_for_a_core_share"] = waited_s / span_s
    figures |= {prefix + name: value for name, value in more.items()}
    return {**figures, f"{prefix}bulk_left": left}


async def bulk_left(running: DeliveringStand) -> int:
    """Bulk events that are not decided yet."""
    stand = running.stand
    ends = await stand.watch.ends((topics.EVENTS_BULK,), stand.partitions)
    committed = await stand.watch.committed(GROUPS[0])
    return sum(max(0, end - committed.get(place, 0)) for place, end in ends.items())


async def measure(options: Options) -> Figures:
    """One repeat."""
    recipients = options.size(options.recipients, 100_000, 5_000)
    backlog = options.size(options.events, 5_000_000, 150_000)
    seconds = options.size(options.seconds, 60, 8)
    async with open_delivering(options.partitions or 16, recipients) as running:
        stand = running.stand
        offer = Offer(
            bootstrap=stand.bootstrap, rate=options.rate or RATE, seconds=seconds + WARM_S,
            recipients=recipients, only="security",
        )  # fmt: skip
        say("critical alone")
        idle = await critical(running, "idle_", offer)
        say(f"{backlog:,} bulk events")
        await running.decide.stop()
        events = people.events(
            backlog, recipients, uuid.uuid4().hex[:8], now_ms(), only="marketing"
        )
        await asyncio.to_thread(fill, stand.bootstrap, events)
        again = msgspec.structs.replace(running, decide=stand.role("decide"))
        await again.decide.ready()
        say("critical with bulk")
        busy = await critical(again, "", offer)
    ratio = busy["critical_p99_ms"] / idle["idle_critical_p99_ms"]
    return {**idle, **busy, "p99_ratio_to_idle": ratio}


def run(options: Options) -> Figures:
    """One repeat, from plain code."""
    return asyncio.run(measure(options))


BENCHMARK = Benchmark(
    name="critical",
    what="latency of critical events under a bulk backlog, beside idle",
    run=run,
    goals=(Goal("p99_ratio_to_idle", 2, at_least=False),),
)
