"""``flowstate explain --what-if``: gathers what the comparison needs, and prints it.

Which records were decided when is asked of the ledger; the records are read from their topics, each
at its offset; preferences, addresses and suppressions are asked of the decide worker that has them.

Invariant: what cannot be known is said each time, in words, beside the figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streams import topics
from streams.api.problems import ProblemError
from streams.api.state_client import StateClient
from streams.codec import Codec, DecodeError
from streams.commands.failures import CommandError
from streams.core.model import Destination, EventInput, Input, Profile, Source, Suppression
from streams.ledger import what_if
from streams.ledger.client import LedgerClient
from streams.ledger.documents import TraceEntry
from streams.ledger.explain import clock
from streams.ledger.what_if import Compared, Decided, Told
from streams.partitioning import partition_of_recipient
from streams.settings import Settings
from streams.web.preference_rules import to_model
from streams.web.state_documents import RecipientDestinations, RecipientPreferences

EVENTS_MAX = 100
"""Of the recipient's latest, unless asked for others."""
PAGES_MAX = 200
"""Of the ledger's timeline: the bound of what is asked for a recipient with a long history."""
RECORD_MS_MAX = 5_000
READ = (*topics.EVENTS, topics.RECEIPTS, topics.CANCELLATIONS, topics.FEEDBACK)
"""Topics whose records are decided again; what people chose is taken as it is now."""

Place = tuple[str, int, int]
"""(topic, partition, offset)."""


class History(msgspec.Struct):
    """What the ledger says of the recipient's latest events, oldest first."""

    told: list[Told]
    places: dict[Place, int]
    """Record -> the clock at which it was decided."""
    versions: list[str]
    is_whole: bool
    """The ledger has nothing older."""


class Comparison(msgspec.Struct, frozen=True):
    """Everything that was found; also the JSON document."""

    recipient_id: str
    today_version: str
    other_version: str
    recorded_versions: list[str]
    events: list[Compared]
    unknown: list[str]
    """What the comparison cannot know, in sentences."""


async def compare(
    settings: Settings, other: Settings, ledger_url: str, recipient_id: str, count: int
) -> Comparison:
    """Raises ``CommandError``, ``LedgerError`` and aiokafka's errors."""
    async with LedgerClient(ledger_url) as client:
        history = await history_of(client, recipient_id, count)
    inputs, gone = await inputs_of(settings, history.places)
    profile = await present_profile(settings, recipient_id)
    partition = partition_of_recipient(recipient_id, settings.kafka.partitions)
    until_ms = time.time_ns() // 1_000_000
    if settings.clock == "stream":
        until_ms = max((step.clock_ms for step in inputs), default=0)
    today, then = (
        what_if.run(recipient_id, partition, profile, inputs, policy, until_ms)
        for policy in (settings.policy, other.policy)
    )
    compared = what_if.compare(inputs, history.told, today, then)
    unknown = limits_of(history, inputs, gone, profile, today, then)
    return Comparison(
        recipient_id, settings.policy.version, other.policy.version, history.versions, compared,
        unknown,
    )  # fmt: skip


async def history_of(client: LedgerClient, recipient_id: str, count: int) -> History:
    """The latest ``count`` events' entries and everything beside them."""
    entries: list[TraceEntry] = []
    before: str | None = None
    events: set[Place] = set()
    for _ in range(PAGES_MAX):
        page = await client.timeline(recipient_id, before)
        for item in page.items:
            entries += item.entries or []
        events = {place for e in entries if (place := place_of(e)) and place[0] in topics.EVENTS}
        before = page.before
        if before is None or len(events) > count:
            break
    entries.sort(key=lambda entry: entry.offset)
    places = {place: e.decided_at_ms for e in reversed(entries) if (place := place_of(e))}
    ordered = sorted(places.items(), key=lambda item: (item[1], _rank(item[0]), item[0]))
    wanted = [item for item in ordered if item[0][0] in topics.EVENTS][-count:]
    since_ms = wanted[0][1] if wanted else 0
    kept = dict(item for item in ordered if item[1] >= since_ms)
    return History(
        [what_if.told_of(entry, entry.decided_at_ms) for entry in entries],
        kept,
        sorted({entry.policy_version for entry in entries if entry.decided_at_ms >= since_ms}),
        before is None and len(kept) == len(places),
    )


def place_of(entry: TraceEntry) -> Place | None:
    """The record that caused an entry, if it is one that is decided again."""
    if entry.source_topic not in READ or entry.source_partition is None:
        return None
    assert entry.source_offset is not None
    return entry.source_topic, entry.source_partition, entry.source_offset


def _rank(place: Place) -> int:
    """Control before critical before normal before bulk, as in a batch."""
    return topics.EVENTS.index(place[0]) + 1 if place[0] in topics.EVENTS else 0


async def inputs_of(settings: Settings, places: Mapping[Place, int]) -> tuple[list[Decided], int]:
    """The records decoded, in the order of ``places``, and how many their topics lost."""
    if not places:
        return [], 0
    codec = Codec(settings.registry_url)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, **settings.security,
        enable_auto_commit=False, isolation_level="read_committed", auto_offset_reset="none",
    )  # fmt: skip
    await consumer.start()
    found: list[Decided] = []
    gone = 0
    try:
        tps = list({TopicPartition(topic, number) for topic, number, _ in places})
        consumer.assign(tps)
        begins = await consumer.beginning_offsets(tps)
        for tp in tps:
            consumer.pause(tp)
        for (topic, number, offset), clock_ms in places.items():
            tp = TopicPartition(topic, number)
            record = None
            if offset >= begins[tp]:
                consumer.seek(tp, offset)
                consumer.resume(tp)
                record = await asyncio.wait_for(consumer.getone(tp), RECORD_MS_MAX / 1000)
                consumer.pause(tp)
            if record is None or record.offset != offset:
                gone += 1
                continue
            await codec.prepare([record.value])
            try:
                found.append(Decided(clock_ms, decoded(codec, record)))
            except DecodeError:
                gone += 1
    finally:
        await consumer.stop()
    return found, gone


def decoded(codec: Codec, record: Any) -> Input:
    """One record as the core's input. Raises ``DecodeError``."""
    source = Source(record.topic, record.partition, record.offset, record.timestamp)
    if record.topic == topics.RECEIPTS:
        return codec.decode_receipt(record.value, source)
    if record.topic == topics.CANCELLATIONS:
        return codec.decode_cancellation(record.value, source)
    if record.topic == topics.FEEDBACK:
        return codec.decode_feedback(record.value, source)
    return EventInput(codec.decode_event(record.value), source)


async def present_profile(settings: Settings, recipient_id: str) -> Profile:
    """Preferences, addresses and suppressions as the recipient's decide worker has them now."""
    client = StateClient(settings.api, settings.engine)
    await client.start()
    try:
        said = await client.of_recipient("GET", recipient_id, "preferences")
        chosen = msgspec.json.decode(said.body, type=RecipientPreferences)
        said = await client.of_recipient("GET", recipient_id, "destinations")
        places = msgspec.json.decode(said.body, type=RecipientDestinations)
    except ProblemError as error:
        raise CommandError(
            f"the recipient's preferences and addresses cannot be read: {error.problem.detail}",
            "A decide worker must be running (`flowstate worker decide`, or `flowstate up`); name"
            " one with decide_urls under [api] if it cannot be found.",
        ) from error
    finally:
        await client.stop()
    return Profile(
        preferences=to_model(chosen.preferences, chosen.preferences.updated_at_ms),
        destinations=tuple(
            Destination(d.destination_id, d.kind, d.address, d.registered_at_ms, d.attributes)
            for d in places.destinations
        ),
        suppressions=tuple(
            Suppression(s.scope, s.reason, s.at_ms, s.until_ms)  # type: ignore[arg-type]
            for s in chosen.suppressions
        ),
    )


def limits_of(
    history: History,
    inputs: Sequence[Decided],
    gone: int,
    profile: Profile,
    today: what_if.Run,
    other: what_if.Run,
) -> list[str]:
    """What this comparison cannot know, each in a sentence."""
    said = []
    changed_ms = profile.preferences.updated_at_ms
    before = sum(isinstance(s.input, EventInput) and s.clock_ms < changed_ms for s in inputs)
    if before:
        said.append(
            f"Preferences are today's, of {clock(changed_ms)}: {before} events were decided under"
            " earlier ones, which are not kept."
        )
    said.append("Addresses that were removed since are not known; kill switches are taken as off.")
    if not history.is_whole:
        said.append(
            "What happened before the first of these events (open digests, sends that count"
            " against limits) is left out."
        )
    if gone:
        said.append(f"{gone} records are no longer on their topics, and are left out.")
    if skipped := today.skipped + other.skipped:
        said.append(
            f"{skipped} times an answer or receipt is about a message that would not have been"
            " sent, and is left out."
        )
    said.append(
        "Messages that were never really sent are taken as accepted, and as never seen or clicked."
    )
    if today.is_cut or other.is_cut:
        said.append(f"Cut off after {what_if.WAKES_MAX:,} wake-ups: the end is missing.")
    return said


def render(found: Comparison, name: str, console: Console) -> None:
    """Prints the differences, what could not be reproduced, and what cannot be known."""
    events = found.events
    different = [one for one in events if one.differs]
    unsure = [one for one in events if not one.is_reproduced]
    console.print(
        Text(f"{len(different)} of {len(events)} events would have gone another way.", "bold")
    )
    console.print(
        f"Under {name} (policy {found.other_version}) instead of today's catalogue"
        f" ({found.today_version}); decided at the time by {', '.join(found.recorded_versions)}."
    )
    if different:
        console.print(_table(different, "today's catalogue", f"under {name}"))
    if unsure:
        console.print(
            Text(
                f"{len(unsure)} events do not come out as they did, even under today's catalogue:"
                " do not rely on these.",
                "yellow",
            )
        )
        for one in unsure:
            line = f"  {one.event_id}: was {one.recorded.said}; today's: {one.today.said}"
            console.print(Text(line, "dim"))
    console.print("What this cannot know:")
    for sentence in found.unknown:
        console.print(Text(f"  - {sentence}"))


def _table(events: Sequence[Compared], today: str, other: str) -> Table:
    table = Table()
    for column in ("event", "category", "decided", today, other):
        table.add_column(column, overflow="fold")
    for one in events:
        now, then = one.today.said, one.other.said
        if one.today.at_ms != one.other.at_ms:
            now, then = (f"{f.said}\n{clock(f.at_ms)}" for f in (one.today, one.other))
        mark = "" if one.is_reproduced else " (?)"
        table.add_row(
            Text(one.event_id + mark), Text(one.category), Text(clock(one.at_ms)), Text(now),
            Text(then, "bold"),
        )  # fmt: skip
    return table
