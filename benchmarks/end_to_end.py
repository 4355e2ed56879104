"""A billion a day for a while: events offered at a steady rate, all the way to a provider's answer.

Broker, decide, deliver, the provider and the load share this machine. Measured is whether it keeps
up (how long after the last event everything was decided and answered), and the latency of each
lane from append to answer.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from benchmarks.delivering import (
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
PARTITIONS = 2
"""One a worker: what comes to the one does not wait until the other's batch is worked out, which
is on the same event loop."""
WARM_S, WARM_SHARE = 150, 0.5
"""Before it, half of the rate for so long, worked off: a broker that carries a billion a day was
not started a minute ago. Its compilers use 17 % of a core after one and a half minutes of load, as
much as all of its request handlers, and 14 % after two and a half."""
QUICK_WARM_S = 3


async def warm_up(running: DeliveringStand, offer: Offer, seconds: float) -> None:
    """Offers a part of the rate for so long, and waits until nothing is left."""
    rate = offer.rate * WARM_SHARE
    say(f"{rate:,.0f} events/s for {seconds} s, not measured")
    await offered(running.stand, replace(offer, rate=rate, seconds=seconds))
    await running.drained()


async def offer_and_drain(
    running: DeliveringStand, options: Options, rate: float, seconds: float, recipients: int
) -> Figures:
    """Offers, waits until nothing is left, and says what was seen."""
    stand = running.stand
    offer = Offer(bootstrap=stand.bootstrap, rate=rate, seconds=seconds, recipients=recipients)
    await warm_up(running, offer, QUICK_WARM_S if options.quick else WARM_S)
    say(f"{rate:,.0f} events/s for {seconds} s")
    log_bytes = stand.log_bytes((topics.OUTCOMES,))
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
    found, statuses = latencies(stand.bootstrap, given.began_ms, given.ended_ms)
    answered = sum(statuses.values())
    log_bytes = stand.log_bytes((topics.OUTCOMES,)) - log_bytes
    return {
        "offered_events_per_second": given.events * 1000 / (given.ended_ms - given.began_ms),
        "offer_late_ms_max": given.late_ms_max,
        "behind_s": ended - offered_at,
        **latency_figures(found),
        "answers_per_second": statuses.get("accepted", 0) / span,
        "answers_not_accepted": answered - statuses.get("accepted", 0),
        "outcomes_log_bytes_per_delivery": log_bytes / max(1, answered),
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
