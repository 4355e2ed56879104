"""Offers events at a steady rate, from a process of its own, so that nothing slows it but Kafka.

Events are encoded beforehand; each gets an id and a recipient of its own put in, so that the load
costs the machine little beside what is measured, and still goes to all of the recipients.

    python -m benchmarks.offer JSON        prints one JSON object at the end

Invariant: a rate that was not kept is said (``late_ms_max``), not hidden.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from typing import NamedTuple

import msgspec

from benchmarks.load import Loader
from benchmarks.people import Record, events, recipient_id

POOL = 20_000
DIGITS = 12
TICK_S = 0.01
LINGER_MS = 50
"""librdkafka makes a request of every partition's batch, where Java's and aiokafka's producers put
those of all partitions into one. At 5 ms it made 635 requests a second of 18 events each here, ten
times as many as any worker, and the broker used 0.40 of a core instead of 0.34. Nothing that is
measured has the linger in it: latency begins when Kafka has taken an event."""


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
    cpu_s: float
    """Seconds of CPU of the process that offered, which is not the product's."""


class Template(NamedTuple):
    """An encoded event, cut where the digits of its id and where its recipient go."""

    topic: str
    start: bytes
    middle: bytes
    end: bytes


def pool(offer: Offer, run: str) -> list[Template]:
    """Events of the mix, without either."""
    at_ms = time.time_ns() // 1_000_000
    seed = random.getrandbits(32)
    made: list[Record] = list(events(POOL, 1, run, at_ms, seed=seed, only=offer.only))
    templates = []
    someone = recipient_id(0).encode()
    for topic, _, value in made:
        id_at = value.index(run.encode()) + len(run) + 1
        who_at = value.index(someone, id_at)
        middle, end = value[id_at + DIGITS : who_at], value[who_at + len(someone) :]
        templates.append(Template(topic, value[:id_at], middle, end))
    return templates


def event(templates: list[Template], offer: Offer, draw: random.Random, number: int) -> Record:
    """The next event: its number is its id, its recipient is drawn evenly."""
    topic, start, middle, end = templates[number % POOL]
    who = recipient_id(int(draw.random() * offer.recipients)).encode()
    return topic, who, b"%b%0*d%b%b%b" % (start, DIGITS, number, middle, who, end)


def offer_all(offer: Offer) -> Offered:
    """Sends at the rate until the time is over, then waits for every acknowledgement."""
    templates = pool(offer, uuid.uuid4().hex[:8])
    draw = random.Random(offer.recipients)
    loader = Loader(offer.bootstrap, **{"linger.ms": LINGER_MS})
    began_ms, began = time.time_ns() // 1_000_000, time.perf_counter()
    sent, late_s = 0, 0.0
    total = int(offer.rate * offer.seconds)
    while sent < total:
        elapsed = time.perf_counter() - began
        due = min(total, int(elapsed * offer.rate))
        late_s = max(late_s, elapsed - sent / offer.rate)
        for number in range(sent, due):
            loader.send(*event(templates, offer, draw, number))
        sent = due
        loader.poll()
        time.sleep(TICK_S)
    loader.flush()
    ended_ms = time.time_ns() // 1_000_000
    loader.close()
    return Offered(sent, began_ms, ended_ms, late_s * 1000, time.process_time())


def main() -> None:
    """Command line."""
    offered = offer_all(msgspec.json.decode(sys.argv[1], type=Offer))
    print(msgspec.json.encode(offered).decode())


if __name__ == "__main__":
    main()
