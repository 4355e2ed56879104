"""The product's rules, written the ordinary Faust way: agents, one table, ``async for``.

What most would write first, with what makes Faust fast turned on (the compiled parts that it
ships, its debug records off, uvloop, a producer that lingers). It decides with the same pure core,
reads and writes the same Avro, and keeps the same state. It does less than the product: no timers,
no claims of addresses, and at least once only.

Topics are named ``twin.NAME``. Run as a process:

    python -m benchmarks.twins.full_faust BOOTSTRAP PARTITIONS FOLDER
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import faust

from benchmarks import people
from benchmarks.load import fill
from benchmarks.people import Record
from benchmarks.stand import Stand, measured
from benchmarks.twins.faust_app import make_app, run_app
from streams import tables, topics
from streams.agents.recipient_work import RecipientWork
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import EventInput, Input, PreferenceInput, RecipientState, Source
from streams.engine.api import Result
from streams.settings import default_path, load

PREFIX = "twin."
CONTROL = (topics.PREFERENCES, topics.DESTINATIONS)
OUT = (*topics.DELIVERIES, topics.DECISIONS, topics.DEAD_LETTERS)


def app_of(bootstrap: str, partitions: int, folder: str) -> faust.App:
    """The app: an agent for each input, all over one table."""
    app = make_app("twin", bootstrap, partitions, folder)
    codec = Codec()
    policy = load(default_path()).policy
    table = app.Table("state", partitions=partitions, key_type=bytes, value_type=bytes)
    out = {
        name: app.topic(PREFIX + name, key_type=bytes, value_type=bytes, value_serializer="raw")
        for name in OUT
    }

    def loaded(recipient_id: str, partition: int) -> RecipientWork:
        key = recipient_id.encode()
        profile, moving = (table.get(kind + key) for kind in (tables.PROFILE, tables.MOVING))
        activity, waiting = state_codec.decode_moving(moving)
        state = RecipientState(
            recipient_id,
            partition,
            state_codec.decode_profile(profile),
            activity,
            waiting,
        )
        return RecipientWork(state, state_codec.due_of_moving(moving), False)

    async def decide(recipient_id: str, entered: Input, source: Source) -> None:
        mine = loaded(recipient_id, source.partition)
        mine.apply(entered, time.time_ns() // 1_000_000, policy)
        result = Result()
        mine.write(result, codec, policy.version, False, lambda claims, result: None)
        for key, value in result.changes.items():
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        for output in result.outputs:
            await out[output.topic].send(key=output.key, value=output.value)

    def entered_of(topic: str, value: bytes, source: Source) -> tuple[str, Input]:
        if topic == topics.PREFERENCES:
            recipient_id, preferences = codec.decode_preference(value)
            return recipient_id, PreferenceInput(recipient_id, preferences, source)
        if topic == topics.DESTINATIONS:
            change = codec.decode_destination(value, source)
            return change.recipient_id, change
        event = codec.decode_event(value)
        return event.recipient_id, EventInput(event, source)

    def listen(topic: str) -> None:
        channel = app.topic(PREFIX + topic, key_type=bytes, value_type=bytes,
                            value_serializer="raw")  # fmt: skip

        @app.agent(channel, name=topic)
        async def agent(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                appended_at_ms = round(message.timestamp * 1_000)
                source = Source(topic, message.partition, message.offset, appended_at_ms)
                await decide(*entered_of(topic, event.value, source), source)

    for topic in (*CONTROL, *topics.EVENTS):
        listen(topic)
    return app


def renamed(records: Iterable[Record]) -> Iterator[Record]:
    """The same records for the twin's topics."""
    return ((PREFIX + topic, key, value) for topic, key, value in records)


async def measure(stand: Stand, events: int, recipients: int) -> dict[str, float]:
    """Runs the twin on a stand; ``measured`` says what is in the figures."""
    inputs = [PREFIX + name for name in (*CONTROL, *topics.EVENTS)]
    await stand.make_topics([*inputs, *(PREFIX + name for name in OUT)])
    at_ms = time.time_ns() // 1_000_000
    fill(stand.bootstrap, renamed(people.population(recipients, at_ms)))
    worker = stand.start(
        "twin",
        ["-m", "benchmarks.twins.full_faust", stand.bootstrap, str(stand.partitions),
         str(stand.folder / "twin")],
        {},
    )  # fmt: skip
    ends = await stand.watch.ends(inputs, stand.partitions)
    await stand.until_consumed("twin", ends, worker)
    backlog = list(renamed(people.events(events, recipients, uuid.uuid4().hex[:8], at_ms)))

    async def work() -> None:
        fill(stand.bootstrap, backlog)
        ends = await stand.watch.ends(inputs, stand.partitions)
        await stand.until_consumed("twin", ends, worker)

    figures = await measured(work(), worker, stand, events)
    await worker.stop()
    return {**figures, "events": events, "recipients": recipients}


if __name__ == "__main__":
    run_app(app_of(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
