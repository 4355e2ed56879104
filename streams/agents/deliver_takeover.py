"""What a new owner finds out before it begins: positions, marks, answers in the tail.

The committed marks say from where on ``outcomes`` has to be read; what is found there, and what is
not, sorts every record of the topics (``deliver_positions``).

Invariant: nothing is written here; a position that cannot be right is refused, never mended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streams.agents.deliver_log import LogClients, OutcomeLog
from streams.agents.deliver_positions import TopicPositions
from streams.agents.deliver_terms import Mark, Names, decode_mark
from streams.codec import Codec
from streams.engine import roles
from streams.sinks.settings import DeliverSettings

log = logging.getLogger(__name__)


class PositionBeyondEndError(Exception):
    """A committed position is behind the end of its topic: the topic is not the one it was."""


async def take_over(
    context: roles.PartitionContext,
    clients: LogClients,
    codec: Codec,
    names: Names,
    settings: DeliverSettings,
    topics: Sequence[str],
) -> tuple[OutcomeLog, dict[str, TopicPositions]]:
    """The partition's log of answers, and where each topic stands.

    Raises ``PositionBeyondEndError`` when a topic is shorter than what was committed of it.
    """
    committed = await context.committed()
    begin = await context.beginning_offsets(topics)
    ends = await context.end_offsets(topics)
    marks = {t: decode_mark(c.metadata) for t, c in committed.items() if t in ends}
    starts = [mark.outcomes_from for mark in marks.values() if mark is not None]
    client = context.client_settings()
    end, answered = await clients.tail(
        client, names.outcomes, context.partition, min(starts, default=None), codec
    )
    positions = {}
    for topic in topics:
        offset = _first_offset(topic, committed.get(topic), begin[topic], ends[topic])
        positions[topic] = TopicPositions(
            offset,
            ends[topic],
            marks.get(topic) or Mark(end, True, 0, offset),
            answered.get(topic, {}),
            settings.in_flight_max,
            settings.ahead_slack,
        )
    producer = await clients.producer(client)
    return OutcomeLog(producer, context.partition, names, end), positions


def _first_offset(topic: str, known: roles.Committed | None, begin: int, end: int) -> int:
    """Where to go on; raises ``PositionBeyondEndError`` for a position the topic never had."""
    if known is None:
        return begin
    if known.offset > end:
        raise PositionBeyondEndError(
            f"{topic}: the committed position {known.offset} is beyond its end {end}; the topic was"
            " emptied or made anew. Reset the group's offsets if that was intended."
        )
    if known.offset < begin:
        log.error("%s: %d deliveries expired unread", topic, begin - known.offset)
    return max(known.offset, begin)
