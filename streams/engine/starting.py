"""Where each input goes on after a restore, and when it is better not to begin at all.

The fence record is the truth. What it says is held against the logs: a position beyond a topic's
end means that the topic was deleted, or lost acknowledged records; going on would skip what comes
next. A position before a topic's begin means that records expired before they were decided.

Invariant: with no fence and no positions in the group everything is read from the beginning; with
positions in the group but no fence the state is lost, and nothing is decided on what is left of it
unless the operator says so.
"""

from __future__ import annotations

import logging

import msgspec

from streams.engine.context import Context
from streams.engine.fence import Fence, read_again_after
from streams.engine.restore import StateLost
from streams.engine.stateful import StatefulRole

log = logging.getLogger(__name__)


class PositionBeyondEnd(Exception):  # noqa: N818 (a state, named for what happened)
    """An input topic ends before what was already decided of it."""


class Beginning(msgspec.Struct):
    """Where a partition goes on."""

    positions: dict[str, int]
    """Next offset of every input topic."""
    read_again: dict[str, int]
    """As ``Fence.read_again``."""


async def where_to_begin(
    context: Context, role: StatefulRole, fenced: Fence, whole: bool
) -> Beginning:
    """Next offset of every input topic of this partition, and what is read again.

    ``whole``: there is a fence, and with it all of the state that it belongs to.
    """
    topics = role.topics
    begins = await context.beginning_offsets(topics)
    if whole:
        wanted = {topic: fenced.positions.get(topic, begins[topic]) for topic in topics}
    else:
        wanted = await _without_fence(context, role, begins)
    ends = await context.end_offsets(topics)
    for topic in topics:
        if wanted[topic] > ends[topic]:
            raise PositionBeyondEnd(_explain_beyond(context, topic, wanted[topic], ends[topic]))
        if wanted[topic] < begins[topic]:
            log.error(
                "partition %d: records %d to %d of %s expired before they were decided",
                context.partition, wanted[topic], begins[topic] - 1, topic,
            )  # fmt: skip
            wanted[topic] = begins[topic]
    if whole:
        return Beginning(wanted, read_again_after(fenced))
    control = role.control.topics
    return Beginning(wanted, {t: ends[t] for t in control if wanted[t] < ends[t]})


async def _without_fence(
    context: Context, role: StatefulRole, begins: dict[str, int]
) -> dict[str, int]:
    committed = await context.committed()
    if not committed:
        return dict(begins)
    if context.settings.on_state_loss == "refuse":
        raise StateLost(
            f"partition {context.partition}: its changelog {role.changelog} no longer holds its"
            " whole state, though the group has worked on it before (was the topic deleted or"
            " trimmed?). Nothing is decided without knowing who opted out. Restore the topic, or"
            ' set on_state_loss = "rebuild" to read preferences and destinations again from'
            " their beginning, without what was held, counted and seen before, and without"
            " unsubscribes by link, complaints and bounces older than the topic of receipts"
        )
    log.error(
        "partition %d: state lost; control topics are read from their beginning, events from"
        " where the group was",
        context.partition,
    )
    control = set(role.control.topics) - set(role.not_again)
    return {
        topic: begin if topic in control or topic not in committed else committed[topic].offset
        for topic, begin in begins.items()
    }


def _explain_beyond(context: Context, topic: str, wanted: int, end: int) -> str:
    return (
        f"partition {context.partition} of {topic} ends at {end}, but everything before {wanted}"
        " has been decided: the topic was deleted and made again, or the cluster lost acknowledged"
        " records. Going on would skip the next records. Restore the topic; or, if it was reset on"
        f" purpose, delete the group's topics and state, {context.settings.data_folder} included"
    )
