"""Offers events at a steady rate, from a process of its own, so that nothing slows it but Kafka.

Events are encoded beforehand; each gets its own id by changing twelve digits in it, so that the
load costs the machine little beside what is measured.

    python -m benchmarks.offer JSON        prints one JSON object at the end

Invariant: a rate that was not kept is said (``late_ms_max``), not hidden.
"""

from __future__ import annotations

import random
import sys
import time
import uuid

import msgspec

from benchmarks.load import Loader
from benchmarks.people import Record, events

POOL = 20_000
DIGITS = 12
TICK_S = 0.01


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What to offer."""

    bootstrap: str
    rate: float
    """Events a second."""
    seconds: float
    recipients: int
    only: str = ""
    """A category; empty for the whole mix."""


class Offered(msgspec.Struct, frozen=True):
    """What was offered."""

    events: int
    began_ms: int
    ended_ms: int
    late_ms_max: float
    """How far behind the schedule it was at worst."""


def pool(offer: Offer, run: str) -> list[tuple[str, bytes, bytes, bytes]]:
    """(topic, key, value before the digits of the id, value behind them)."""
    at_ms = time.time_ns() // 1_000_000
    seed = random.getrandbits(32)
    made: list[Record] = list(
        events(POOL, offer.recipients, run, at_ms, seed=seed, only=offer.only)
    )
    parts = []
    for topic, key, value in made:
        at = value.index(run.encode()) + len(run) + 1
        parts.append((topic, key, value[:at], value[at + DIGITS :]))
    return parts


def offer_all(offer: Offer) -> Offered:
    """Sends at the rate until the time is over, then waits for every acknowledgement."""
    templates = pool(offer, uuid.uuid4().hex[:8])
    loader = Loader(offer.bootstrap, **{"linger.ms": 5})
    began_ms, began = time.time_ns() // 1_000_000, time.perf_counter()
    sent, late_s = 0, 0.0
    total = int(offer.rate * offer.seconds)
    while sent < total:
        elapsed = time.perf_counter() - began
        due = min(total, int(elapsed * offer.rate))
        late_s = max(late_s, elapsed - sent / offer.rate)
        for number in range(sent, due):
            topic, key, before, behind = templates[number % POOL]
            loader.send(topic, key, b"%b%0*d%b" % (before, DIGITS, number, behind))
        sent = due
        loader.poll()
        time.sleep(TICK_S)
    loader.flush()
    ended_ms = time.time_ns() // 1_000_000
    loader.close()
    return Offered(sent, began_ms, ended_ms, late_s * 1000)


def main() -> None:
    """Command line."""
    offered = offer_all(msgspec.json.decode(sys.argv[1], type=Offer))
    print(msgspec.json.encode(offered).decode())


if __name__ == "__main__":
    main()
