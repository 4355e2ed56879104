"""A billion a day for a while: events offered at a steady rate, all the way to a provider's answer.

Broker, decide, deliver, the provider and the load share this machine. Measured is whether it keeps
up (how long after the last event everything was decided and answered), and the latency of each
lane from append to answer.
"""

from __future__ import annotations

import time

from benchmarks.delivering import (
    PARTITIONS,
    DeliveringStand,
    batch_figures,
    latencies,
    latency_figures,
    offered,
    open_delivering,
)
from benchmarks.offer import Offer
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import Recording, say
from streams import topics

RATE = 11_574
QUICK_RATE = 1_000
WORKERS = 2
"""Of decide: one would leave a part of the second core idle while its own is full."""
WARM_S = 30.0
"""The first seconds of load are left out: the broker has just started, and its compilers use 40 %
of what it uses then; two full cores take as long to make up for what was left meanwhile."""
QUICK_WARM_S = 3.0


async def offer_and_drain(
    running: DeliveringStand, options: Options, rate: float, seconds: float, recipients: int
) -> Figures:
    """Offers, waits until nothing is left, and says what was seen."""
    stand = running.stand
    warm_s = QUICK_WARM_S if options.quick else WARM_S
    offer = Offer(
        bootstrap=stand.bootstrap, rate=rate, seconds=seconds + warm_s, recipients=recipients
    )
    cpu, batches, waited = running.cpu_s(), await running.batches(), running.waited_s()
    began = time.perf_counter()
    with Recording(options, running.decide.first, "end-to-end"):
        given = await offered(stand, offer)
    offered_at = time.perf_counter()
    await running.drained()
    running.check()
    ended = time.perf_counter()
    span = ended - began
    cores = {name: (now - cpu[name]) / span for name, now in running.cpu_s().items()}
    more = batch_figures(batches, await running.batches())
    found, statuses = latencies(
        stand.bootstrap, given.began_ms + int(warm_s * 1000), given.ended_ms
    )
    answered = sum(statuses.values())
    return {
        "offered_events_per_second": given.events * 1000 / (given.ended_ms - given.began_ms),
        "offer_late_ms_max": given.late_ms_max,
        "behind_s": ended - offered_at,
        **latency_figures(found),
        "answers_per_second": statuses.get("accepted", 0) / span,
        "answers_not_accepted": answered - statuses.get("accepted", 0),
        "outcomes_log_bytes_per_delivery": stand.log_bytes((topics.OUTCOMES,)) / max(1, answered),
        **more,
        **{f"{name}_cores": used for name, used in cores.items()},
        "load_cores": given.cpu_s / span,
        **{
            f"{name}_waited_for_a_core_share": (now - waited[name]) / span
            for name, now in running.waited_s().items()
        },
        "decide_rss_mb": running.decide.rss_bytes() / 2**20,
        "deliver_rss_mb": running.deliver.rss_bytes() / 2**20,
    }


async def measure(options: Options) -> Figures:
    """One repeat."""
    recipients = options.size(options.recipients, 300_000, 5_000)
    rate = options.rate or (QUICK_RATE if options.quick else RATE)
    seconds = options.size(options.seconds, 300, 10)
    partitions, workers = options.partitions or PARTITIONS, options.workers or WORKERS
    async with open_delivering(partitions, recipients, workers) as running:
        say(f"{rate:,.0f} events/s for {seconds} s")
        return await offer_and_drain(running, options, rate, seconds, recipients)


BENCHMARK = Benchmark(
    name="end-to-end",
    what="events offered at a steady rate, to a local APNs' answer; latency per lane",
    run=in_a_loop(measure),
    goals=(
        Goal("behind_s", 2, at_least=False),
        Goal("critical_p99_ms", 250, at_least=False),
        Goal("normal_p99_ms", 2_000, at_least=False),
    ),
)
