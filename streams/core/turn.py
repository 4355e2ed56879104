"""One decision in the making: working copies of the state's parts and the effects so far.

A part is replaced, never changed, so the state that came in stays as it was, and a part that is
still the same object at the end needs no write. Rules read and write through a ``Turn``; only
``decide`` makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from streams.core.model import (
    Claim,
    DeadLetter,
    Decision,
    Delivery,
    Entry,
    Held,
    Notification,
    RecipientState,
    Sent,
    Source,
    Verdict,
)
from streams.core.policy import Policy
from streams.core.reasons import REASONS
from streams.core.state_codec import next_due_ms

Settle = Callable[..., None]
"""``decide.settle``, handed down to what releases and retries: a callee knows no caller."""


class Turn:
    """Working state of one call of ``decide``."""

    __slots__ = (
        "activity",
        "claims",
        "dead_letters",
        "deliveries",
        "entries",
        "event_inputs",
        "now_ms",
        "partition",
        "policy",
        "profile",
        "recipient_id",
        "source",
        "state",
        "waiting",
    )

    def __init__(
        self, state: RecipientState, now_ms: int, policy: Policy, source: Source | None
    ) -> None:
        self.state = state
        self.recipient_id = state.recipient_id
        self.partition = state.partition
        self.profile = state.profile
        self.activity = state.activity
        self.waiting = state.waiting
        self.now_ms = now_ms
        self.policy = policy
        self.source = source
        self.event_inputs: dict[str, str] = {}
        self.deliveries: list[Delivery] = []
        self.entries: list[Entry] = []
        self.dead_letters: list[DeadLetter] = []
        self.claims: list[Claim] = []

    def wait(self, **changes: Any) -> None:
        """Replaces fields of the waiting part."""
        self.waiting = replace(self.waiting, **changes)

    def conclude(
        self,
        notification: Notification,
        verdict: Verdict,
        reason: str,
        inputs: dict[str, str] | None = None,
        *,
        until_ms: int | None = None,
        digest_id: str | None = None,
        deliveries: tuple[Sent, ...] = (),
    ) -> None:
        """Records a verdict on a notification."""
        if self.event_inputs:
            inputs = {**self.event_inputs, **(inputs or {})}
            self.event_inputs = {}
        self.entries.append(
            Entry(
                notification.notification_id,
                verdict,
                reason,
                REASONS[reason].rule,
                notification.category,
                notification.event_id,
                digest_id,
                until_ms,
                notification.count,
                deliveries,
                inputs or {},
                self.source,
            )
        )

    def note(
        self,
        subject_id: str,
        reason: str,
        category: str = "",
        event_id: str | None = None,
        inputs: dict[str, str] | None = None,
        until_ms: int | None = None,
    ) -> None:
        """Records something that ends nothing, so that the story can be told."""
        self.entries.append(
            Entry(
                subject_id,
                "noted",
                reason,
                REASONS[reason].rule,
                category,
                event_id,
                None,
                until_ms,
                1,
                (),
                inputs or {},
                self.source,
            )
        )

    def hold(
        self,
        notification: Notification,
        due_ms: int,
        reason: str,
        inputs: dict[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Lets a notification wait until ``due_ms``, but never beyond its expiry."""
        due_ms = max(self.now_ms + 1, min(due_ms, notification.expires_at_ms))
        bound = self.policy.bounds.held_max
        if len(self.waiting.held) >= bound:
            self.conclude(notification, "dropped", "held_overflow", {"limit": str(bound)})
            return
        held = Held(notification, due_ms, reason, self.now_ms, step)
        self.wait(held=(*self.waiting.held, held))
        self.conclude(notification, "held", reason, inputs, until_ms=due_ms)

    def decision(self) -> Decision:
        """What came of it."""
        before = self.state
        same = (
            self.profile is before.profile
            and self.activity is before.activity
            and self.waiting is before.waiting
        )
        state = (
            before
            if same
            else RecipientState(
                self.recipient_id, self.partition, self.profile, self.activity, self.waiting
            )
        )
        return Decision(
            state,
            tuple(self.deliveries),
            tuple(self.entries),
            tuple(self.dead_letters),
            tuple(self.claims),
            next_due_ms(self.waiting),
        )
