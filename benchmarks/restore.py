"""How fast a lost worker's state is back: from the changelog, and by a standby that takes over.

First one worker with an empty folder restores everybody's state. Then a second one joins with a
copy of each partition, the first is killed while events are offered, and measured is how long it
takes until events that came after the kill are decided on every partition.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid

from benchmarks import people
from benchmarks.load import fill
from benchmarks.report import Benchmark, Figures, Goal, Options, in_a_loop
from benchmarks.stand import Stand, Worker, folder_bytes, now_ms, open_stand, say
from benchmarks.state import Lives, lay
from streams import topics

GROUP = "flowstate-decide"
RESTORED = re.compile(r"partition \d+: restored (\d+) changelog records in ([0-9.]+) s")
EVENTS_EACH = 3
PROBES_PER_PARTITION = 50
STANDBY = {"ENGINE__STANDBY_REPLICAS": "1"}
CAUGHT_UP_S_MAX = 300.0
LIVED_MS = 60_000
"""How long ago the laid lives were lived: short, so that little of them is due meanwhile."""


def restored(worker: Worker) -> tuple[int, float]:
    """(records, seconds of the slowest partition), as the worker says."""
    found = RESTORED.findall(worker.process.output())
    return sum(int(count) for count, _ in found), max(float(seconds) for _, seconds in found)


async def from_changelog(stand: Stand, recipients: int) -> tuple[Worker, Figures]:
    """A worker that had nothing has everything."""
    changelog = stand.log_bytes((topics.STATE_CHANGELOG,))
    began = time.perf_counter()
    worker = stand.role("decide", "one", STANDBY)
    await worker.ready()
    ready_s = time.perf_counter() - began
    records, seconds = restored(worker)
    return worker, {
        "restore_records": records,
        "records_per_recipient": records / recipients,
        "changelog_bytes_per_recipient": changelog / recipients,
        "disk_bytes_per_recipient": folder_bytes(stand.folder / "one") / recipients,
        "restore_records_per_second": records / seconds,
        "restore_s": seconds,
        "start_to_ready_s": ready_s,
        "restore_rss_mb": worker.rss_bytes() / 2**20,
    }


async def standby_full(stand: Stand, first: Worker) -> Worker:
    """A second worker; when this returns, each of the two has all partitions, one way or other."""
    second = stand.role("decide", "two", STANDBY)
    await asyncio.gather(first.ready(), second.ready())
    deadline = time.monotonic() + CAUGHT_UP_S_MAX
    for worker in (first, second):
        while not _has_all(await worker.metrics(), stand.partitions):
            worker.check()
            if time.monotonic() > deadline:
                raise RuntimeError("the standbys have not caught up")
            await asyncio.sleep(0.2)
    return second


def _has_all(metrics: dict[str, float], partitions: int) -> bool:
    owned = metrics.get("flowstate_partition_state", 0)
    return owned == partitions and not metrics.get("flowstate_restore_left_records", 0)


async def take_over(stand: Stand, survivor: Worker, recipients: int) -> float:
    """Seconds from now until events that come from now on are decided on every partition."""
    began = time.perf_counter()
    count = PROBES_PER_PARTITION * stand.partitions
    events = people.events(count, recipients, uuid.uuid4().hex[:8], now_ms())
    await asyncio.to_thread(fill, stand.bootstrap, events)
    ends = await stand.watch.ends(topics.EVENTS, stand.partitions)
    await stand.until_consumed(GROUP, ends, survivor)
    return time.perf_counter() - began


async def measure(options: Options) -> Figures:
    """One repeat."""
    recipients = options.size(options.recipients, 1_000_000, 20_000)
    async with open_stand(options.partitions or 16) as stand:
        say(f"state of {recipients:,} recipients")
        lives = Lives(recipients=recipients, at_ms=now_ms() - LIVED_MS, events_each=EVENTS_EACH)
        await asyncio.to_thread(lay, stand.bootstrap, stand.partitions, lives)
        say("restoring")
        first, figures = await from_changelog(stand, recipients)
        say("a standby")
        second = await standby_full(stand, first)
        await take_over(stand, second, recipients)  # both at work, everything warm
        say("the first one is killed")
        first.process.kill()
        figures["takeover_after_kill_s"] = await take_over(stand, second, recipients)
        await second.stop()
    return figures


BENCHMARK = Benchmark(
    name="restore",
    what="state from the changelog, and a standby's take-over after a kill",
    run=in_a_loop(measure),
    goals=(
        Goal("restore_records_per_second", 150_000),
        Goal("takeover_after_kill_s", 10, at_least=False),
    ),
)
