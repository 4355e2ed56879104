"""How far time may be released: never ahead of what has not been read yet.

After an outage the backlog holds receipts and cancellations that are older than what is due by
now. So owners are released only up to the append time of the oldest record that the partition has
not decided. Append times never go back within a partition's log, so the last record that was
decided bounds those behind it: nothing has to be peeked at.

Invariant: the horizon is never later than the wall clock, nor than any record not yet decided on
a lane that holds timers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.engine.context import Context
from streams.engine.roles import Lane


async def horizon_ms(
    context: Context,
    lanes: Sequence[Lane],
    positions: Mapping[str, int],
    append_times: Mapping[str, int],
    now_ms: int,
) -> int:
    """Latest due time that may fire now.

    ``positions``: topic -> offset after what was decided. ``append_times``: topic -> append time
    of the last record decided since the start; where there is none, nothing may fire yet.
    """
    topics = [topic for lane in lanes for topic in lane.topics]
    ends = await context.end_offsets(topics)
    horizon = now_ms
    for topic in topics:
        # Behind the last record there may be markers: a position past them is as good.
        decided_to = positions.get(topic, 0)
        if not context.at_hand((topic,)) and context.position(topic) >= ends[topic]:
            continue
        if decided_to < ends[topic]:
            horizon = min(horizon, append_times.get(topic, 0))
    return horizon
