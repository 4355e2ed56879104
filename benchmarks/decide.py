"""What one ``decide`` worker takes: the full rules, exactly once, everything acknowledged.

Preferences and addresses of all recipients are decided first (not measured). Then a backlog of
Avro events is laid behind a gate and opened: measured is the time from there until the group has
committed all of it, by when outputs, state and offsets are durable. One worker process, state in
RocksDB, changelog in Kafka, on the shipped catalogue and its settings.

Beside it, on the same broker, a twin with the same rules, written the ordinary Faust way.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid

from benchmarks import people
from benchmarks.load import Gate, fill, read_committed
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import (
    Recording,
    Stand,
    Worker,
    folder_bytes,
    measured,
    now_ms,
    open_stand,
    say,
)
from benchmarks.twins import full_faust
from streams import topics
from streams.codec import Codec

GROUP = "flowstate-decide"
LOGS = {
    "deliveries": topics.DELIVERIES,
    "decisions": (topics.DECISIONS,),
    "changelog": (topics.STATE_CHANGELOG,),
}
"""What a decided event adds to the log."""
ACCOUNTED_EVENTS_MAX = 200_000
"""Of so many events each is looked for among the decisions afterwards."""
TWIN_EVENTS_MAX = 20_000
"""The twin takes fewer events, over fewer recipients in proportion: as many events for each, so
the same state."""


async def populated_worker(stand: Stand, recipients: int) -> Worker:
    """A decide worker that knows everyone and has nothing left to do."""
    say(f"{recipients:,} recipients")
    fill(stand.bootstrap, people.population(recipients, now_ms()))
    worker = stand.role("decide")
    await worker.ready()
    for names in ((topics.PREFERENCES, topics.DESTINATIONS), (topics.DESTINATION_CLAIMS,)):
        ends = await stand.watch.ends(names, stand.partitions)
        await stand.until_consumed(GROUP, ends, worker)
    return worker


async def product(stand: Stand, options: Options, events: int, recipients: int) -> Figures:
    """The product's figures."""
    worker = await populated_worker(stand, recipients)
    disk_before = folder_bytes(stand.folder / "decide")
    rss_before = worker.rss_bytes()
    say(f"{events:,} events")
    with Gate(stand.bootstrap) as gate:
        gate.fill(people.events(events, recipients, uuid.uuid4().hex[:8], now_ms()))
        targets = await stand.watch.ends(topics.EVENTS, stand.partitions)
        log_before = {name: stand.log_bytes(names) for name, names in LOGS.items()}
        work = stand.work_off(gate, GROUP, targets, worker)

        say("the gate opens")
        with Recording(options, worker, "decide"):
            figures = await measured(work, worker, stand, events)
    figures["log_bytes_per_event_events"] = stand.log_bytes(topics.EVENTS) / events
    for name, names in LOGS.items():
        added = stand.log_bytes(names) - log_before[name]
        figures[f"log_bytes_per_event_{name}"] = added / events
    outputs = await stand.watch.ends(topics.DELIVERIES, stand.partitions)
    figures["deliveries_per_event"] = sum(outputs.values()) / events
    figures["disk_bytes_per_recipient"] = folder_bytes(stand.folder / "decide") / recipients
    figures["disk_bytes_per_recipient_before"] = disk_before / recipients
    figures["rss_mb_before"] = rss_before / 2**20
    dead = await stand.watch.ends((topics.DEAD_LETTERS,), stand.partitions)
    figures["dead_letters"] = sum(dead.values())
    await worker.stop()
    if events <= ACCOUNTED_EVENTS_MAX:
        figures["events_unaccounted"] = await asyncio.to_thread(unaccounted, stand, events)
    return figures


def unaccounted(stand: Stand, events: int) -> int:
    """Events of which no decision speaks. Every one of them must be spoken of."""
    codec = Codec()
    seen = set()
    for value in read_committed(stand.bootstrap, topics.DECISIONS):
        for entry in codec.decode("decision", value)["entries"]:
            if entry["source_topic"] in topics.EVENTS:
                place = entry["source_topic"], entry["source_partition"], entry["source_offset"]
                seen.add(place)
    return events - len(seen)


async def measure(options: Options) -> Figures:
    """One repeat."""
    partitions = options.partitions or 16
    events = options.size(options.events, 1_000_000, 60_000)
    recipients = options.size(options.recipients, 100_000, 10_000)
    async with open_stand(partitions) as stand:
        found = await product(stand, options, events, recipients)
        shutil.rmtree(stand.folder / "decide")
        if options.twins:
            say("the twin in ordinary Faust")
            few = min(events, TWIN_EVENTS_MAX)
            twin = await full_faust.measure(stand, few, max(1, recipients * few // events))
            found |= {f"twin_{name}": value for name, value in twin.items()}
            found["ratio_to_twin"] = found["events_per_second"] / twin["events_per_second"]
            found["cpu_ratio_to_twin"] = twin["cpu_s_per_100_000"] / found["cpu_s_per_100_000"]
    return found


BENCHMARK = Benchmark(
    name="decide",
    what="one decide worker, full rules, exactly once; twin: the same rules in ordinary Faust",
    run=in_a_loop(measure),
    goals=(
        Goal("events_per_second", 40_000),
        Goal("ratio_to_twin", 8),
        Goal("cpu_s_per_100_000", 2.5, at_least=False),
        Goal("dead_letters", 0, at_least=False),
        Goal("events_unaccounted", 0, at_least=False),
    ),
)
