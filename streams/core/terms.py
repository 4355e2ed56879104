"""What the rules hand each other: small frozen values, apart from the rules that make them.

They stand here, and the nouns in ``model.py`` and ``policy.py``, because the rules can be compiled
(docs/performance.md) and these cannot: a compiler knows nothing of what makes a class a struct.
"""

from __future__ import annotations

import msgspec

from streams.core.model import Channel, Destination
from streams.core.policy import LimitRule

Scope = tuple[str, LimitRule]
"""(key of the send times, rule)."""


class Course(msgspec.Struct, frozen=True, gc=False):
    """How far a notification has come before it is settled (again)."""

    step: int = 0
    """Channels before this place in the recipient's order are behind it (escalation)."""
    delivery_ids: tuple[str, ...] = ()
    """What was handed over before: a receipt for it ends the escalation."""
    without: str | None = None
    """A channel to leave out: its last address is gone."""
    charged: bool = False
    """The recipient's limits were charged by an attempt that reached nobody."""
    reason: str = "routed"
    """Reason code to give when it is sent."""

    @property
    def is_new(self) -> bool:
        """Nothing of it was sent before: it may still be gathered, and starts a lookback."""
        return not self.step and not self.charged


FROM_THE_START = Course()


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why an event cannot be decided."""

    reason: str
    inputs: dict[str, str]


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A channel that may be used now."""

    channel: Channel
    step: int
    """Place in the recipient's order of channels."""
    destinations: tuple[Destination, ...]
    cell: str
    """The preference cell that allowed it."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Which limit is used up, and when its next slot is free."""

    rule: LimitRule
    free_at_ms: int

    @property
    def label(self) -> str:
        """The limit for people: ``3 per 3600 s per recipient``."""
        rule = self.rule
        return f"{rule.count_max} per {rule.window_ms // 1000} s per {rule.scope}"


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The limits that are about one category, by when they can be asked."""

    notification: tuple[Scope, ...]
    """Asked once for a notification, whatever its channel."""
    channels: dict[str, tuple[Scope, ...]]
    """Asked for each channel."""
    destinations: dict[str, tuple[Scope, ...]]
    """Channel -> asked for each address; the destination's id is put before the key."""
