"""How decide changes as it grows: with recipients, with workers, with partitions.

State of all recipients is laid into the changelog and restored first, so the database is as large
as it would be. Then the same number of events is worked off, as in ``decide``.
"""

from __future__ import annotations

import asyncio
import uuid

from benchmarks import people
from benchmarks.load import Gate
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import Stand, Workers, folder_bytes, measured, now_ms, open_stand, say
from benchmarks.state import Lives, lay
from streams import topics

GROUP = "flowstate-decide"
SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
QUICK_SIZES = (2_000, 20_000)
EVENTS_EACH = 3
LIVED_MS = 60_000
"""How long ago the laid lives were lived: short, so that little of them is due meanwhile."""


def size_text(recipients: int) -> str:
    """``10k``, ``5m``."""
    return f"{recipients // 1_000_000}m" if recipients >= 1_000_000 else f"{recipients // 1_000}k"


async def populated(stand: Stand, recipients: int, workers: int) -> Workers:
    """Workers that have restored everybody's state."""
    lives = Lives(recipients=recipients, at_ms=now_ms() - LIVED_MS, events_each=EVENTS_EACH)
    await asyncio.to_thread(lay, stand.bootstrap, stand.partitions, lives)
    running = stand.share("decide", workers)
    await running.ready()
    return running


async def worked_off(stand: Stand, workers: Workers, events: int, recipients: int) -> Figures:
    """Rate, CPU and memory over a backlog."""
    with Gate(stand.bootstrap) as gate:
        gate.fill(people.events(events, recipients, uuid.uuid4().hex[:8], now_ms()))
        targets = await stand.watch.ends(topics.EVENTS, stand.partitions)
        work = stand.work_off(gate, GROUP, targets, workers)
        return await measured(work, workers, stand, events)


async def one(recipients: int, partitions: int, workers: int, events: int) -> Figures:
    """One shape, on a stand of its own."""
    say(f"{recipients:,} recipients, {partitions} partitions, {workers} workers")
    async with open_stand(partitions) as stand:
        running = await populated(stand, recipients, workers)
        figures = await worked_off(stand, running, events, recipients)
        await running.stop()
        disk = sum(folder_bytes(stand.folder / worker.name) for worker in running.each)
    return {**figures, "disk_bytes_per_recipient": disk / recipients}


async def measure(options: Options) -> Figures:
    """One repeat: sizes, then workers, then partitions."""
    events = options.size(options.events, 500_000, 10_000)
    sizes: tuple[int, ...] = QUICK_SIZES if options.quick else SIZES
    if options.recipients:
        sizes = (options.recipients,)
    middle = sizes[min(1, len(sizes) - 1)]
    shapes = {f"{size_text(size)}": (size, 16, 1) for size in sizes}
    if not options.recipients:
        shapes |= {"two_workers": (middle, 16, 2), "64_partitions": (middle, 64, 1)}
    found: Figures = {}
    for name, (recipients, partitions, workers) in shapes.items():
        figures = await one(recipients, partitions, workers, events)
        found |= {f"{name}_{figure}": value for figure, value in figures.items()}
    smallest, largest = (found[f"{size_text(sizes[at])}_events_per_second"] for at in (0, -1))
    found["loss_share"] = 1 - largest / smallest
    return found


BENCHMARK = Benchmark(
    name="growth",
    what="decide with more recipients, two workers, 64 partitions",
    run=in_a_loop(measure),
    goals=(Goal("loss_share", 0.25, at_least=False),),
)
