"""The thin job in three ways, one after the other on one Kafka: engine, bare protocol, Faust.

The engine and the bare protocol do it exactly once; ordinary Faust at least once. Deliveries are
counted afterwards and compared with an oracle.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import msgspec

from benchmarks import thin_job, thin_rules
from benchmarks.load import Gate, count_committed, fill
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import Recording, Stand, measured, open_stand, say
from benchmarks.twins import bare, thin_faust
from streams.engine.settings import EngineSettings
from streams.local.processes import free_port

FAUST_EVENTS_MAX = 30_000
BARE_S_MAX = 300.0


def engine_settings(stand: Stand, port: int) -> EngineSettings:
    """The engine's defaults, on this stand."""
    return EngineSettings(
        bootstrap=stand.bootstrap,
        application=thin_job.APPLICATION,
        partitions=stand.partitions,
        data_folder=str(stand.folder / "thin"),
        web_port=port,
        batch_records_max=bare.BATCH_RECORDS_MAX,  # Like is compared with like.
        offsets_commit_ms=100,
        idle_fence_ms=500,
    )


async def on_engine(stand: Stand, options: Options, events: int, recipients: int) -> Figures:
    """The product's engine."""
    port = free_port()
    settings = msgspec.json.encode(engine_settings(stand, port)).decode()
    worker = stand.start("thin", ["-m", "benchmarks.thin_job", settings], {}, port)
    await worker.ready()
    with Gate(stand.bootstrap) as gate:
        gate.fill(thin_rules.events(events, recipients))
        targets = await stand.watch.ends((thin_rules.EVENTS,), stand.partitions)
        work = stand.work_off(gate, thin_job.GROUP, targets, worker)

        with Recording(options, worker, "thin"):
            figures = await measured(work, worker, stand, events)
    await worker.stop()
    return figures


async def on_bare(stand: Stand, events: int) -> Figures:
    """The bare protocol, on the same events."""
    worker = stand.start(
        "bare",
        ["-m", "benchmarks.twins.bare", stand.bootstrap, str(stand.partitions),
         str(stand.folder / "bare"), str(events)],
        {},
    )  # fmt: skip
    status = await asyncio.wait_for(worker.process.wait(), BARE_S_MAX)
    said = worker.process.output()
    if status != 0:
        raise RuntimeError(f"the bare protocol has failed:\n{said[-4_000:]}")
    figures: Figures = json.loads(said.splitlines()[-1])
    return figures


async def on_faust(stand: Stand, events: int, recipients: int) -> Figures:
    """Ordinary Faust, on fewer events."""
    worker = stand.start(
        "thinfaust",
        ["-m", "benchmarks.twins.thin_faust", stand.bootstrap, str(stand.partitions),
         str(stand.folder / "thinfaust")],
        {},
    )  # fmt: skip
    # A few events first, so that assignment and imports are not measured.
    fill(stand.bootstrap, list(thin_rules.events(1_000, recipients, thin_faust.EVENTS)))
    ends = await stand.watch.ends((thin_faust.EVENTS,), stand.partitions)
    await stand.until_consumed(thin_faust.GROUP, ends, worker)
    backlog = list(thin_rules.events(events, recipients, thin_faust.EVENTS))

    async def work() -> None:
        fill(stand.bootstrap, backlog)
        ends = await stand.watch.ends((thin_faust.EVENTS,), stand.partitions)
        await stand.until_consumed(thin_faust.GROUP, ends, worker)

    figures = await measured(work(), worker, stand, events)
    await worker.stop()
    return figures


def prefixed(prefix: str, figures: Figures, names: Iterable[str]) -> Figures:
    """Some of the figures, under longer names."""
    return {f"{prefix}_{name}": figures[name] for name in names}


async def measure(options: Options) -> Figures:
    """One repeat."""
    events = options.size(options.events, 1_000_000, 100_000)
    recipients = options.size(options.recipients, 100_000, 10_000)
    expected = thin_rules.oracle(events, recipients)
    shown = ("events_per_second", "cpu_s_per_100_000", "rss_mb")
    async with open_stand(options.partitions or 8, product_topics=False) as stand:
        await stand.make_topics([*thin_job.TOPICS, *bare.TOPICS, *thin_faust.TOPICS])
        say(f"{events:,} events on the engine")
        found = await on_engine(stand, options, events, recipients)
        found["deliveries"] = await asyncio.to_thread(
            count_committed, stand.bootstrap, thin_job.DELIVERIES
        )
        found["deliveries_wrong"] = abs(found["deliveries"] - expected)
        if options.twins:
            say("the bare protocol")
            found |= prefixed("bare", await on_bare(stand, events), shown)
            found["ratio_to_bare"] = found["events_per_second"] / found["bare_events_per_second"]
            found["cpu_ratio_to_bare"] = (
                found["bare_cpu_s_per_100_000"] / found["cpu_s_per_100_000"]
            )
            say("ordinary Faust")
            few = min(events, FAUST_EVENTS_MAX)
            twin = await on_faust(stand, few, max(1, recipients * few // events))
            found |= prefixed("faust", twin, shown)
            found["ratio_to_faust"] = found["events_per_second"] / twin["events_per_second"]
            found["cpu_ratio_to_faust"] = twin["cpu_s_per_100_000"] / found["cpu_s_per_100_000"]
    return found


BENCHMARK = Benchmark(
    name="thin",
    what="a thin job on the engine, on the bare protocol, in ordinary Faust",
    run=in_a_loop(measure),
    goals=(Goal("events_per_second", 80_000), Goal("deliveries_wrong", 0, at_least=False)),
)
