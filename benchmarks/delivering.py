"""A stand that delivers: decide and deliver workers, and an APNs that answers at once.

The provider is ``null_provider.py``: real HTTP/2 over TLS in a process of its own, which costs as
little as it can of the machine that everything shares.

Latency is from the moment Kafka took an event (its append time) to the moment the provider's
answer was there, as the ``outcomes`` topic says. Only what was sent at once counts: digests and
whatever waited for a time of day are late on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from benchmarks import people
from benchmarks.deliver import NullProvider, configuration
from benchmarks.load import fill, read_committed
from benchmarks.offer import Offer, Offered
from benchmarks.report import Figures
from benchmarks.stand import Stand, Worker, Workers, now_ms, open_stand, say
from streams import topics
from streams.codec import Codec
from streams.local.authority import identity

PARTITIONS = 4
"""What two cores need. Each partition makes its own transactions, and one costs this machine as
much as a hundred events do."""
GROUPS = ("flowstate-decide", "flowstate-deliver")
LANES = {name: topic.removeprefix("events.") for name, _, topic in people.MIX}
"""Category -> lane."""
PARTS = ("", "_until_taken", "_from_taken")
"""The whole way; from append to the start of the batch that decided; from there to the answer."""


class DeliveringStand(msgspec.Struct, frozen=True):
    """What runs."""

    stand: Stand
    provider: NullProvider
    decide: Workers
    deliver: Worker

    def check(self) -> None:
        """Raises RuntimeError when a worker has ended."""
        self.decide.check()
        self.deliver.check()

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU of every process so far."""
        return {
            "decide": self.decide.cpu_s(),
            "deliver": self.deliver.cpu_s(),
            "provider": self.provider.cpu_s(),
            "broker": self.stand.broker_cpu_s(),
        }

    def waited_s(self) -> dict[str, float]:
        """Seconds that a worker's main thread had no core, so far; of decide workers the mean."""
        return {"decide": self.decide.waited_s(), "deliver": self.deliver.waited_s()}

    async def batches(self) -> dict[str, float]:
        """What the decide workers counted so far: transactions, seconds in them, records, seconds
        in the rules."""
        counted = await self.decide.metrics()
        names = (
            "flowstate_commit_seconds_count", "flowstate_commit_seconds_sum",
            "flowstate_batch_records_sum", "flowstate_process_seconds_sum",
        )  # fmt: skip
        return {name: counted.get(name, 0.0) for name in names}

    async def drained(self, critical_only: bool = False) -> None:
        """Waits until everything offered so far was decided, and then sent."""
        stand = self.stand
        events = (topics.EVENTS_CRITICAL,) if critical_only else topics.EVENTS
        ends = await stand.watch.ends(events, stand.partitions)
        await stand.until_consumed(GROUPS[0], ends, self.decide)
        lanes = (True,) if critical_only else (True, False)
        names = [topics.deliveries("apns", critical) for critical in lanes]
        ends = await stand.watch.ends(names, stand.partitions)
        # Behind the last delivery is the marker of its transaction, which no position may cover.
        ends = {place: end - 1 for place, end in ends.items() if end}
        await stand.until_consumed(GROUPS[1], ends, self.deliver)


@contextlib.asynccontextmanager
async def open_delivering(
    partitions: int, recipients: int, workers: int = 1
) -> AsyncIterator[DeliveringStand]:
    """Everything up, everyone known, nothing left to do. ``workers``: of decide."""
    async with open_stand(partitions) as stand:
        folder = stand.folder / "identity"
        known = identity(folder)
        provider = NullProvider(folder)
        try:
            stand.config = stand.folder / "flowstate.toml"
            stand.config.write_text(configuration(known, provider))
            yield await _everyone_known(stand, provider, recipients, workers)
        finally:
            provider.kill()


async def _everyone_known(
    stand: Stand, provider: NullProvider, recipients: int, workers: int
) -> DeliveringStand:
    say(f"{recipients:,} recipients")
    fill(stand.bootstrap, people.population(recipients, now_ms(), phones_only=True))
    decide, deliver = stand.share("decide", workers), stand.role("deliver")
    await asyncio.gather(decide.ready(), deliver.ready())
    for names in ((topics.PREFERENCES, topics.DESTINATIONS), (topics.DESTINATION_CLAIMS,)):
        ends = await stand.watch.ends(names, stand.partitions)
        await stand.until_consumed(GROUPS[0], ends, decide)
    return DeliveringStand(stand, provider, decide, deliver)


async def offered(stand: Stand, offer: Offer) -> Offered:
    """Offers events from a process of its own, and waits for its end."""
    process = stand.start(
        "offer", ["-m", "benchmarks.offer", msgspec.json.encode(offer).decode()], {}
    )
    status = await process.process.wait()
    said = process.process.output()
    if status != 0:
        raise RuntimeError(f"the offer has failed:\n{said[-4_000:]}")
    return msgspec.json.decode(said.splitlines()[-1], type=Offered)


def latencies(
    bootstrap: str, began_ms: int, ended_ms: int
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """(lane and part -> milliseconds, sorted), and how many outcomes there are of each status.

    Of events that Kafka took between the two times.
    """
    codec = Codec()
    found: dict[str, list[int]] = {
        f"{lane}{part}": [] for lane in ("critical", "normal", "bulk") for part in PARTS
    }
    statuses: dict[str, int] = {}
    for value in read_committed(bootstrap, topics.OUTCOMES):
        outcome = codec.decode("outcome", value)
        if not began_ms <= outcome["appended_at_ms"] <= ended_ms:
            continue
        statuses[outcome["status"]] = statuses.get(outcome["status"], 0) + 1
        if outcome["event_id"] is None:
            continue
        lane = LANES[outcome["category"]]
        appended, decided = outcome["appended_at_ms"], outcome["decided_at_ms"]
        answered = outcome["answered_at_ms"]
        found[lane].append(answered - appended)
        found[lane + PARTS[1]].append(decided - appended)
        found[lane + PARTS[2]].append(answered - decided)
    return {lane: sorted(values) for lane, values in found.items()}, statuses


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of them is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def latency_figures(found: Mapping[str, Sequence[float]], prefix: str = "") -> Figures:
    """Percentiles of each lane that has any."""
    figures: Figures = {}
    for lane, values in found.items():
        if not values:
            continue
        if not lane.endswith(PARTS[1:]):
            figures[f"{prefix}{lane}_answers"] = len(values)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
            figures[f"{prefix}{lane}_{name}_ms"] = percentile(values, share)
    return figures


def batch_figures(before: Mapping[str, float], after: Mapping[str, float]) -> Figures:
    """Of the transactions between two looks: how many, how long, how many records each."""
    count, commit_s, records, process_s = (after[name] - before[name] for name in before)
    if not count:
        return {}
    return {
        "decide_transactions": count,
        "decide_commit_ms_mean": 1000 * commit_s / count,
        "decide_rules_ms_mean": 1000 * process_s / count,
        "decide_records_per_transaction": records / count,
    }
