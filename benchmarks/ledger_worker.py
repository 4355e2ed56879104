"""What one ``ledger`` worker takes: decisions read, rows written, positions durable.

A decide worker makes the decisions of a backlog first. The ledger reads them once, warm; then the
same records are laid behind a gate again and measured. Their rows are written over older ones,
which costs the store what new ones do.
"""

from __future__ import annotations

import asyncio
import uuid

from benchmarks import people
from benchmarks.load import Gate, fill, read_messages
from benchmarks.report import Benchmark, Figures, Options, in_a_loop
from benchmarks.stand import Recording, Stand, folder_bytes, measured, now_ms, open_stand, say
from benchmarks.state import Lives, lay
from streams import topics

GROUP, DECIDE_GROUP = "flowstate-ledger", "flowstate-decide"
LIVED_MS = 60_000
"""How long ago the laid lives were lived: short, so that little of them is due meanwhile."""
Made = tuple[bytes, bytes, int]
"""(key, value, partition) of a decision."""


async def decisions(stand: Stand, events: int, recipients: int) -> list[Made]:
    """The decisions of a backlog, made by a decide worker."""
    lives = Lives(recipients=recipients, at_ms=now_ms() - LIVED_MS, events_each=1)
    await asyncio.to_thread(lay, stand.bootstrap, stand.partitions, lives)
    worker = stand.role("decide")
    await worker.ready()
    fill(stand.bootstrap, people.events(events, recipients, uuid.uuid4().hex[:8], now_ms()))
    ends = await stand.watch.ends(topics.EVENTS, stand.partitions)
    await stand.until_consumed(DECIDE_GROUP, ends, worker)
    await worker.stop()
    return [
        (message.key() or b"", message.value() or b"", message.partition() or 0)
        for message in read_messages(stand.bootstrap, topics.DECISIONS)
    ]


async def measure(options: Options) -> Figures:
    """One repeat."""
    events = options.size(options.events, 300_000, 20_000)
    recipients = options.size(options.recipients, 100_000, 5_000)
    async with open_stand(options.partitions or 16) as stand:
        say(f"{events:,} events are decided")
        made = await decisions(stand, events, recipients)
        worker = stand.role("ledger")
        await worker.ready()
        ends = await stand.watch.ends((topics.DECISIONS,), stand.partitions)
        markers = {place: end - 1 for place, end in ends.items() if end}
        await stand.until_consumed(GROUP, markers, worker)
        disk = folder_bytes(stand.folder / "ledger")
        say(f"{len(made):,} decisions again")
        with Gate(stand.bootstrap) as gate:
            for key, value, partition in made:
                gate.send(topics.DECISIONS, key, value, partition)
            gate.flush()
            targets = await stand.watch.ends((topics.DECISIONS,), stand.partitions)
            work = stand.work_off(gate, GROUP, targets, worker)

            with Recording(options, worker, "ledger-worker"):
                found = await measured(work, worker, stand, events)
        await worker.stop()
    return {
        **found,
        "decisions": len(made),
        "decisions_per_second": len(made) / found["seconds"],
        "disk_bytes_per_event": disk / events,
    }


BENCHMARK = Benchmark(
    name="ledger-worker", what="one ledger worker: decisions, read and kept", run=in_a_loop(measure)
)
