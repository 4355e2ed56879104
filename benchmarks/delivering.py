"""A stand that delivers: decide and deliver workers, and a local APNs over HTTP/2 and TLS.

Latency is from the moment Kafka took an event (its append time) to the moment the provider's
answer was there, as the ``outcomes`` topic says. Only what was sent at once counts: digests and
whatever waited for a time of day are late on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from benchmarks import people
from benchmarks.load import fill, read_committed
from benchmarks.offer import Offer, Offered
from benchmarks.report import Figures
from benchmarks.stand import Stand, Worker, now_ms, open_stand, say
from streams import topics
from streams.codec import Codec
from streams.configuration.shape import table_of
from streams.local.authority import identity
from streams.local.processes import free_port, is_port_free
from streams.local.providers import Ports, provider_settings
from streams.local.toml_text import merged, toml_text
from streams.settings import shipped_configuration

GROUPS = ("flowstate-decide", "flowstate-deliver")
LANES = {name: topic.removeprefix("events.") for name, _, topic in people.MIX}
"""Category -> lane."""
PARTS = ("", "_until_taken", "_from_taken")
"""The whole way; from append to the start of the batch that decided; from there to the answer."""
LISTEN_S_MAX = 30.0
IN_FLIGHT_MAX = 1_000


class DeliveringStand(msgspec.Struct, frozen=True):
    """What runs."""

    stand: Stand
    providers: Worker
    decide: Worker
    deliver: Worker
    ports: Ports

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Every process but the broker."""
        return self.decide, self.deliver, self.providers

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
async def open_delivering(partitions: int, recipients: int) -> AsyncIterator[DeliveringStand]:
    """Everything up, everyone known, nothing left to do."""
    async with open_stand(partitions) as stand:
        ports = Ports(free_port(), free_port(), free_port())
        _configure(stand, ports)
        providers = stand.start(
            "providers",
            ["-m", "streams.cli", "providers", "--data", str(stand.folder / "providers"),
             "--ports", f"{ports.apns},{ports.http},{ports.smtp}"],
            {},
        )  # fmt: skip
        async with asyncio.timeout(LISTEN_S_MAX):
            while is_port_free(ports.apns):
                providers.check()
                await asyncio.sleep(0.1)
        say(f"{recipients:,} recipients")
        fill(stand.bootstrap, people.population(recipients, now_ms(), phones_only=True))
        decide, deliver = stand.role("decide"), stand.role("deliver")
        await asyncio.gather(decide.ready(), deliver.ready())
        for names in ((topics.PREFERENCES, topics.DESTINATIONS), (topics.DESTINATION_CLAIMS,)):
            ends = await stand.watch.ends(names, stand.partitions)
            await stand.until_consumed(GROUPS[0], ends, decide)
        yield DeliveringStand(stand, providers, decide, deliver, ports)


def _configure(stand: Stand, ports: Ports) -> None:
    """The shipped configuration with a local APNs."""
    known = identity(stand.folder / "providers" / "identity")
    apns = next(each for each in provider_settings(known, ports) if each.name == "apns")
    apns = msgspec.structs.replace(apns, in_flight_max=IN_FLIGHT_MAX)
    over = {"providers": {"apns": table_of(apns)}}
    stand.config = stand.folder / "flowstate.toml"
    stand.config.write_text(toml_text(merged(tomllib.loads(shipped_configuration()), over)))


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
        statuses[outcome["status"]] = statuses.get(outcome["status"], 0) + 1
        if outcome["event_id"] is None or not began_ms <= outcome["appended_at_ms"] <= ended_ms:
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
