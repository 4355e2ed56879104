"""The nouns of delivering: topics, what is kept beside a position, an answer to be written.

In a module of their own because they are structs of msgspec, which the compiled modules around them
cannot define (``deploy/compile.sh``).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streams import topics
from streams.engine.packing import Row


class Names(msgspec.Struct, frozen=True):
    """Topics that the role touches; tests give their own."""

    deliveries: Callable[[str, bool], str] = topics.deliveries
    outcomes: str = topics.OUTCOMES
    feedback: str = topics.FEEDBACK
    receipts: str = topics.RECEIPTS
    dead_letters: str = topics.DEAD_LETTERS
    kill_switch: str = topics.KILL_SWITCH
    clock: str = topics.TICKS
    """Where the broker is asked for its time; empty: nowhere."""


class Finished(msgspec.Struct):
    """An answer, ready to be written."""

    aside: list[tuple[str, Row]]
    """(topic, record) to be written before the outcome."""
    outcome: Row | None
    on_durable: Callable[[int], None]
    """Called with the outcome's offset (or where one would be)."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """What is kept beside a committed position (as JSON, in the group's offset metadata)."""

    outcomes_from: int
    """No answer to a record at or after the position is before this offset of ``outcomes``."""
    clean: bool
    ahead_max: int
    """So many records behind the last answered one may have been sent."""
    send_below: int
    """Nothing at or after this offset has been sent."""
    version: int = 1


def encode_mark(mark: Mark) -> str:
    """Metadata text of a mark."""
    return msgspec.json.encode(mark).decode()


def decode_mark(metadata: str) -> Mark | None:
    """The mark, or ``None`` when a position was committed by other means (an operator's tool)."""
    try:
        return msgspec.json.decode(metadata.encode(), type=Mark)
    except msgspec.DecodeError:
        return None


class Answered(msgspec.Struct, frozen=True):
    """An answer in the tail: where it is, and what it answered."""

    outcome_offset: int
    delivery_id: str
