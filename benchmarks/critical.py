"""What a critical event waits while a bulk backlog is worked off, beside what it waits when idle.

First critical events alone, at a low steady rate; then a bulk backlog is laid while no decide
worker runs, the worker comes back, and the same critical events are offered again. ``backlog_left``
says how much of the backlog was still there at the end: it must not be 0. The same with a backlog
of normal events, as any outage leaves one.
"""

from __future__ import annotations

import asyncio
import time
import uuid

import msgspec

from benchmarks import people
from benchmarks.delivering import (
    GROUPS,
    PARTITIONS,
    DeliveringStand,
    batch_figures,
    latencies,
    latency_figures,
    offered,
    open_delivering,
)
from benchmarks.load import fill
from benchmarks.offer import Offer
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import now_ms, say
from streams import topics

RATE = 100.0
WARM_S = 2.0
NORMAL_PART = 2
"""Of the bulk backlog, so that it is worked off before the next begins."""


async def critical(
    running: DeliveringStand, prefix: str, offer: Offer, backlog_topic: str
) -> Figures:
    """Offers critical events; their latencies, and what was left of the backlog then."""
    batches, waited_s = await running.batches(), running.decide.waited_s()
    began = time.perf_counter()
    given = await offered(running.stand, offer)
    waited_share = (running.decide.waited_s() - waited_s) / (time.perf_counter() - began)
    more = batch_figures(batches, await running.batches())
    left = await left_of(running, backlog_topic)
    await running.drained(critical_only=True)
    found, _ = latencies(
        running.stand.bootstrap, given.began_ms + int(WARM_S * 1000), given.ended_ms
    )
    figures = latency_figures({k: v for k, v in found.items() if "critical" in k}, prefix)
    figures[f"{prefix}decide_waited_for_a_core_share"] = waited_share
    figures |= {prefix + name: value for name, value in more.items()}
    return {**figures, f"{prefix}backlog_left": left}


async def left_of(running: DeliveringStand, topic: str) -> int:
    """Events of a lane that are not decided yet."""
    stand = running.stand
    ends = await stand.watch.ends((topic,), stand.partitions)
    committed = await stand.watch.committed(GROUPS[0])
    return sum(max(0, end - committed.get(place, 0)) for place, end in ends.items())


async def behind(
    running: DeliveringStand, category: str, backlog: int, recipients: int
) -> DeliveringStand:
    """The same stand, its decide worker come back to a backlog of a category."""
    say(f"{backlog:,} events of {category}")
    await running.decide.stop()
    run_id = uuid.uuid4().hex[:8]
    events = people.events(backlog, recipients, run_id, now_ms(), only=category)
    await asyncio.to_thread(fill, running.stand.bootstrap, events)
    workers = len(running.decide.each)
    again = msgspec.structs.replace(running, decide=running.stand.share("decide", workers))
    await again.decide.ready()
    return again


async def measure(options: Options) -> Figures:
    """One repeat."""
    recipients = options.size(options.recipients, 100_000, 5_000)
    backlog = options.size(options.events, 5_000_000, 120_000)
    seconds = options.size(options.seconds, 60, 8)
    async with open_delivering(options.partitions or PARTITIONS, recipients) as idle:
        offer = Offer(
            bootstrap=idle.stand.bootstrap, rate=options.rate or RATE, seconds=seconds + WARM_S,
            recipients=recipients, only="security",
        )  # fmt: skip
        say("critical alone")
        found = await critical(idle, "idle_", offer, topics.EVENTS_NORMAL)
        busy = await behind(idle, "message", backlog // NORMAL_PART, recipients)
        found |= await critical(busy, "normal_", offer, topics.EVENTS_NORMAL)
        await busy.drained()
        busy = await behind(busy, "marketing", backlog, recipients)
        found |= await critical(busy, "", offer, topics.EVENTS_BULK)
    idle_ms = found["idle_critical_p99_ms"]
    found["p99_ratio_to_idle"] = found["critical_p99_ms"] / idle_ms
    found["normal_p99_ratio_to_idle"] = found["normal_critical_p99_ms"] / idle_ms
    return found


BENCHMARK = Benchmark(
    name="critical",
    what="latency of critical events under a backlog of bulk, and of normal events; idle",
    run=in_a_loop(measure),
    goals=(Goal("p99_ratio_to_idle", 2, at_least=False),),
)
