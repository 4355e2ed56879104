"""The thin job, written the ordinary Faust way.

python -m benchmarks.twins.thin_faust BOOTSTRAP PARTITIONS FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable

import faust

from benchmarks.thin_rules import apply, decode_state, encode_state
from benchmarks.twins.faust_app import make_app, run_app

GROUP = "thinfaust"
EVENTS, DELIVERIES = "thinfaust.events", "thinfaust.deliveries"
TOPICS = (EVENTS, DELIVERIES)


def app_of(bootstrap: str, partitions: int, folder: str) -> faust.App:
    """One agent, one table."""
    app = make_app(GROUP, bootstrap, partitions, folder)
    table = app.Table("state", partitions=partitions, key_type=bytes, value_type=bytes)
    deliveries = app.topic(DELIVERIES, key_type=bytes, value_type=bytes, value_serializer="raw")
    events = app.topic(EVENTS, key_type=bytes, value_type=bytes, value_serializer="raw")

    @app.agent(events)
    async def decide(stream: faust.StreamT[bytes]) -> None:
        items: AsyncIterable[tuple[bytes, bytes]] = stream.items()
        async for key, value in items:
            state = decode_state(table.get(key))
            is_changed, delivery = apply(value, state)
            if is_changed:
                table[key] = encode_state(state)
            if delivery is not None:
                await deliveries.send(key=key, value=delivery)

    return app


if __name__ == "__main__":
    run_app(app_of(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
