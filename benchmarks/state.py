"""State of many recipients, laid into the changelog as the product itself would have written it.

Deciding preferences and addresses of five million people takes longer than what is to be measured.
So the product's own core decides the lives of a few thousand, and what it would have written for
them is written for everyone, under everyone's own keys. A worker then restores it, as after a move.

Invariant: every value was made by the core and encoded by the product; only keys are made here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks import people
from benchmarks.load import POLL_EVERY, Loader
from streams import topics
from streams.agents.recipient_work import RecipientWork
from streams.codec import Codec
from streams.core.model import EventInput, Input, PreferenceInput, RecipientState, Source
from streams.core.policy import Policy
from streams.engine.api import Result
from streams.partitioning import partition_of_recipient
from streams.settings import default_path, load

TEMPLATES = 2_000
LATEST_MS = 1
"""Between two events of a life."""

Life = list[tuple[bytes, bytes]]
"""(kind of state, value) of one recipient."""


class Lives(msgspec.Struct, frozen=True, kw_only=True):
    """What the recipients have lived through."""

    recipients: int
    at_ms: int
    """When they signed up."""
    events_each: int = 0
    """Events of the whole mix, spread over the time since then."""
    digest_due_ms: int | None = None
    """Everyone also has an open digest that is due then."""


def templates(lives: Lives) -> list[Life]:
    """Lives of a few thousand recipients, decided by the core."""
    codec, policy = Codec(), load(default_path()).policy
    return [_life(codec, policy, lives, n) for n in range(min(TEMPLATES, lives.recipients))]


def _life(codec: Codec, policy: Policy, lives: Lives, number: int) -> Life:
    recipient = people.recipient_id(number)
    work = RecipientWork(RecipientState(recipient, 0), None, False)
    for entered, at_ms in _inputs(codec, lives, number):
        work.apply(entered, at_ms, policy)
    result = Result()
    work.write(result, codec, policy.version, False, lambda claims, result: None)
    changes = result.changes.items()
    return [(key[: -len(recipient)], value) for key, value in changes if value is not None]


def _inputs(codec: Codec, lives: Lives, number: int) -> Iterator[tuple[Input, int]]:
    """Preferences, addresses, then events, each with its time."""
    draw = random.Random(number)
    recipient = people.recipient_id(number)
    write = people.writers()
    chosen = people.preference(draw, recipient, lives.at_ms)
    has_digest = lives.digest_due_ms is not None
    if has_digest:
        # Nothing but the time may keep the digest from being sent.
        chosen |= {"quiet_hours": [], "categories": {}, "channels": {}, "digests": {}}
    source = Source(topics.PREFERENCES, 0, 0, lives.at_ms)
    _, preferences = codec.decode_preference(write["preference"](chosen))
    yield PreferenceInput(recipient, preferences, source), lives.at_ms
    for destination in people.destinations(draw, number, recipient, lives.at_ms, has_digest):
        yield codec.decode_destination(write["destination"](destination), source), lives.at_ms
    for place in range(lives.events_each):
        category, topic = draw.choice([(category, topic) for category, _, topic in people.MIX])
        at_ms = lives.at_ms + LATEST_MS * (place + 1)
        yield _event(codec, category, topic, number, place, at_ms), at_ms
    if lives.digest_due_ms is not None:
        # A lookback digest: the first is sent at once, and what follows within the hour waits.
        first_ms = lives.digest_due_ms - 3_600_000
        for place in range(3):
            at_ms = first_ms + place
            yield _event(codec, "message", topics.EVENTS_NORMAL, 1, place, at_ms, number), at_ms


def _event(
    codec: Codec, category: str, topic: str, number: int, place: int, at_ms: int,
    who: int | None = None,
) -> EventInput:  # fmt: skip
    """An event of recipient ``who`` (``number`` when left out), by the actor of that number."""
    write = people.writers()["event"]
    made = people.event(
        write, category, topic, number, number if who is None else who, f"life{place}", at_ms
    )
    return EventInput(codec.decode_event(made[2]), Source(topic, 0, place, at_ms))


def lay(bootstrap: str, partitions: int, lives: Lives) -> int:
    """Writes everyone's state to the changelog; returns how many records that was."""
    made: Sequence[Life] = templates(lives)
    loader = Loader(bootstrap)
    count = 0
    try:
        for number in range(lives.recipients):
            recipient = people.recipient_id(number)
            partition = partition_of_recipient(recipient, partitions)
            key = recipient.encode()
            for kind, value in made[number % len(made)]:
                loader.send(topics.STATE_CHANGELOG, kind + key, value, partition)
                count += 1
            if number % POLL_EVERY == 0:
                loader.poll()
        loader.flush()
    finally:
        loader.close()
    return count
