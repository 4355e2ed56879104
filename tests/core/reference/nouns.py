"""What the reference model thinks in: plain things that are changed in place."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.core.model import (
    Delivery,
)

MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR
CHANNEL = {"apns": "push", "fcm": "push", "webpush": "push", "sms": "sms", "email": "email"}
RANK = {"critical": 0, "normal": 1, "bulk": 2}
HORIZON_DAYS = 16
"""How far beyond its start a run can look."""


@dataclass(frozen=True)
class Told:
    """An entry: what is said of a subject."""

    subject: str
    verdict: str
    reason: str
    until_ms: int | None = None


@dataclass(frozen=True)
class Leaves:
    """A delivery that is handed over."""

    subject: str
    channel: str
    destination: str
    address: str
    step: int
    attempt: int
    epoch: int
    count: int
    actors: int
    shown: tuple[str, ...]
    valid_until_ms: int
    expires_at_ms: int
    priority: str


@dataclass
class Member:
    """An event inside a digest."""

    event_id: str
    actor: str
    expires_ms: int
    collapse_key: str | None
    data: dict[str, str]


@dataclass
class Thing:
    """Something to tell: an event, or a closed digest with its members."""

    subject: str
    event_id: str | None
    category: str
    priority: str
    appended_ms: int
    expires_ms: int
    actor: str = ""
    collapse_key: str | None = None
    campaign: str | None = None
    key: str | None = None
    data: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    shown: list[Member] = field(default_factory=list)

    @property
    def count(self) -> int:
        return 1 if self.event_id is not None else len(self.members)

    @property
    def actors(self) -> int:
        if self.event_id is not None:
            return 1 if self.actor else 0
        return len({member.actor for member in self.members if member.actor})

    @property
    def shown_ids(self) -> tuple[str, ...]:
        return tuple(member.event_id for member in self.shown)


@dataclass
class Hold:
    thing: Thing
    due_ms: int
    why: str
    step: int = 0
    handed: tuple[tuple[str, str, int], ...] = ()
    local: str = ""
    lifetime_ms: int = 0


@dataclass
class Gathering:
    """An open digest."""

    name: str
    thing: Thing
    opened_ms: int
    due_ms: int
    opened_by: str
    closing: str = "digest_due"


@dataclass
class Again:
    """A delivery that waits for its next attempt."""

    delivery: Delivery
    subject: str
    due_ms: int
    waits_for: str = ""


@dataclass
class Next:
    """A planned step of an escalation."""

    thing: Thing
    step: int
    due_ms: int
    handed: tuple[tuple[str, str, int], ...]


@dataclass
class Ban:
    """A suppression."""

    scope: str
    reason: str
    at_ms: int
    until_ms: int | None = None


@dataclass(frozen=True)
class Charge:
    """A send, as limits count it."""

    at_ms: int
    category: str
    told: bool
    """Counts as a notification (a fallback was counted before)."""
    channels: frozenset[str]
    destinations: tuple[str, ...]


KINDS = (Hold, Gathering, Again, Next)


class MismatchError(AssertionError):
    """The core's own choice is outside what the rule allows."""


@dataclass
class ClosedThing(Thing):
    """A digest as its delivery tells it: its members are not known any more."""

    told_count: int = 0
    told_actors: int = 0
    told_shown: tuple[str, ...] = ()
    told_by: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        return self.told_count

    @property
    def actors(self) -> int:
        return self.told_actors

    @property
    def shown_ids(self) -> tuple[str, ...]:
        return self.told_shown


def delivery_with(delivery: Delivery, attempt: int, epoch: int) -> Delivery:
    """The delivery as another try."""
    fields = {name: getattr(delivery, name) for name in delivery.__struct_fields__}
    return Delivery(**{**fields, "attempt": attempt, "epoch": epoch})
