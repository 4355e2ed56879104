"""The naive recipient's memory, and what it says."""

from __future__ import annotations

from collections.abc import Callable

from streams.core.model import (
    Delivery,
    Destination,
    Event,
    Preferences,
)
from streams.core.policy import Policy
from tests.core.reference.nouns import (
    MINUTE,
    Again,
    Ban,
    Charge,
    Gathering,
    Hold,
    Leaves,
    Next,
    Told,
)


class Recipient:
    """See the module's text."""

    notification_id: Callable[[str], str]
    delivery_id: Callable[[str, str, str, int], str]

    def __init__(self, policy: Policy, start_ms: int) -> None:
        self.policy = policy
        self.start_minute = start_ms // MINUTE
        self.prefs = Preferences()
        self.destinations: list[Destination] = []
        self.bans: list[Ban] = []
        self.accepted: list[tuple[str, int, Event]] = []
        self.charges: list[Charge] = []
        self.waiting: list[Hold | Gathering | Again | Next] = []
        self.lookbacks: dict[tuple[str, str], int] = {}
        self.withdrawn: dict[str, int] = {}
        """Event id -> until when its withdrawal is remembered."""
        self.newest: dict[tuple[str, str], int] = {}
        self.answered: dict[str, tuple[tuple[int, int], int]] = {}
        """Delivery (or notification and channel) -> (epoch and attempt, forget at)."""
        self.digests = 0
        self.now = start_ms
        self.told: list[Told] = []
        self.leaves: list[Leaves] = []
        self.subject_of: Callable[[Delivery], str] = lambda delivery: delivery.event_id or ""
        self.due_of_retry: Callable[[str, str, str], int | None] = lambda *_: None
        """(subject, channel, destination) -> when the core will retry."""

    def tell(self, subject: str, verdict: str, reason: str, until_ms: int | None = None) -> None:
        self.told.append(Told(subject, verdict, reason, until_ms))

    @property
    def next_due_ms(self) -> int | None:
        return min((item.due_ms for item in self.waiting), default=None)

    def remember_answer(self, name: str, mark: tuple[int, int], expires_ms: int) -> None:
        """Each answer counts once, for as long as its delivery may live."""
        self.answered = {n: known for n, known in self.answered.items() if known[1] > self.now}
        self.answered[name] = (mark, max(expires_ms, self.now) + 1)

    def killed(self, category: str, campaign: str | None) -> bool:
        return bool(
            {"all", f"category:{category}", f"campaign:{campaign}"} & set(self.policy.kills)
        )
