"""Runs histories by their seeds, checks each, and tells the story of one that fails."""

from __future__ import annotations

import hashlib
import logging

import msgspec

from streams import topics
from streams.simulation.chaos import Troubles
from streams.simulation.checks import all_checks, repeat_counts
from streams.simulation.evidence import Evidence
from streams.simulation.replay import Replay
from streams.simulation.world import World


class Verdict(msgspec.Struct, frozen=True):
    """What came of one history."""

    seed: int
    faults: tuple[str, ...]
    troubles: tuple[str, ...]
    events: int
    received: int
    repeated: int
    doubtful: int
    deaths: int
    batches: int
    digest: str
    """Over everything that any process wrote and any provider received."""
    story: tuple[str, ...] = ()
    """Only of a history that failed, or when it was asked for."""


def simulate(seed: int, tell: bool = False, troubles: Troubles | None = None) -> Verdict:
    """Lives one history and judges it; ``troubles`` takes the place of the seed's own."""
    world = World(seed, troubles)
    faults: list[str] = []
    try:
        world.run()
    except Exception as error:
        faults.append(f"the history did not end: {type(error).__name__}: {error}")
    faults += world.bad_ends
    faults += [f"nobody handled {context['message']}" for context in world.loop.failures]
    evidence = world.evidence()
    batches = 0
    if not faults:
        faults += all_checks(evidence)
        faults += _unread(world)
        for partition in range(world.partitions):
            replay, found = _replayed(world, evidence, partition)
            batches += replay.batches
            faults += found
    repeated, doubtful = repeat_counts(evidence)
    return Verdict(
        seed=seed,
        faults=tuple(faults),
        troubles=draw_names(world),
        events=sum(1 for _ in evidence.of(topics.EVENTS)),
        received=len(evidence.receptions),
        repeated=repeated,
        doubtful=doubtful,
        deaths=world.chaos.deaths,
        batches=batches,
        digest=_digest(world),
        story=tuple(world.story.lines()) if faults or tell else (),
    )


def draw_names(world: World) -> tuple[str, ...]:
    """The troubles that this history had."""
    drawn = world.drawn_troubles
    return tuple(name for name in drawn.__struct_fields__ if getattr(drawn, name))


def _unread(world: World) -> list[str]:
    """Input that nobody read, though nothing kept anybody from it."""
    found = []
    for tp, committed in world.groups["decide"].positions.items():
        left, _ = world.log[tp].read(committed.offset, 1)
        if left:
            found.append(f"{tp.topic}/{tp.partition} was only read to {committed.offset}")
    return found


def _replayed(world: World, evidence: Evidence, partition: int) -> tuple[Replay, list[str]]:
    """The copy of a partition, and how it differs from what the log and the owner's disk hold."""
    changelog = evidence.records[topics.STATE_CHANGELOG, partition]
    replay = Replay(evidence, partition, changelog, world.plan.engine.wake_owners_max)
    logger = logging.getLogger("streams")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # What is decided once more is not to be told once more.
    try:
        faults = [f"replay: {text}" for text in replay.differences()]
    finally:
        logger.setLevel(level)
    if faults:
        return replay, faults
    stored = world.stored(partition)
    if stored is not None:
        data, due = stored
        if data != replay.copy.data:
            faults.append(f"partition {partition}: the owner's disk is not what was decided")
        if due != replay.copy.due:
            faults.append(f"partition {partition}: due on the owner's disk {due[:3]}, should be"
                          f" {replay.copy.due[:3]}")  # fmt: skip
    return replay, faults


def _digest(world: World) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, places in world.log.topics.items():
        for place in places:
            for record, transaction in place.entries:
                state = "" if transaction is None else transaction.state
                digest.update(f"{name}/{place.number} {state}".encode())
                if record is not None:
                    digest.update(b"%d" % record.appended_at_ms)
                    digest.update((record.key or b"") + b"\0" + (record.value or b""))
    digest.update(msgspec.json.encode(world.providers.ledger))
    return digest.hexdigest()
