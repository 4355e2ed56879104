"""A delivery on its way through a lane, and what a lane needs of the runner that it belongs to.

Invariant: a lane reaches everything outside of it through its host.
"""

from __future__ import annotations

from typing import Protocol

from streams.agents.deliver_positions import Entry
from streams.core.model import Delivery
from streams.sinks.base import Answer
from streams.templates.rendered import Rendered, RenderFailed


class Item:
    """A delivery on its way through a lane."""

    __slots__ = ("begun", "critical", "delivery", "entry", "finished", "sending", "topic")

    def __init__(self, delivery: Delivery, topic: str, entry: Entry, *, critical: bool) -> None:
        self.delivery = delivery
        self.topic = topic
        self.entry = entry
        self.critical = critical
        self.begun = False
        self.sending = False
        self.finished = False


class LaneHost(Protocol):
    """What a lane needs from the partition's runner."""

    def now_ms(self) -> int:
        """Wall clock."""

    def leased(self) -> bool:
        """Whether this worker has lately confirmed that the partition is still its own."""

    def may_begin(self, item: Item) -> bool:
        """Whether sending may begin: the window, the lease, not stopping."""

    def begins(self, item: Item) -> None:
        """Sending begins now."""

    def killed_by(self, delivery: Delivery) -> str | None:
        """The kill switch that stops it."""

    def render(self, delivery: Delivery) -> Rendered | RenderFailed:
        """Its words."""

    def finish(self, item: Item, answer: Answer) -> None:
        """Takes the answer over and makes it durable."""

    def fail(self, error: BaseException) -> None:
        """Something happened that must not: the runner ends, and with it the process."""
