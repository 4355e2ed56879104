"""One decision in the making: working copies of the state's parts and the effects so far.

A part is replaced, never changed, so the state that came in stays as it was, and a part that is
still the same object at the end needs no write. Rules read and write through a ``Turn``; only
``decide`` makes one.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from msgspec.structs import replace

from streams.core import ids, sizes
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
    Waiting,
    packed,
)
from streams.core.policy import Policy
from streams.core.reasons import RULES
from streams.core.state_codec import next_due_ms
from streams.core.terms import FROM_THE_START, Course

NO_INPUTS: Final[dict[str, str]] = {}


class Settle(Protocol):
    """``decide.settle``, handed down to what releases and retries: a callee knows no caller."""

    def __call__(
        self, turn: Turn, notification: Notification, course: Course = FROM_THE_START
    ) -> None:
        """Takes a notification through rules 3 to 9."""


class Turn:
    """Working state of one call of ``decide``."""

    __slots__ = (
        "activity", "claims", "dead_letters", "deliveries", "due_ms", "due_of", "entries",
        "hashed", "hashed_id", "now_ms", "partition", "policy", "profile", "recipient_id",
        "source", "state", "waiting",
    )  # fmt: skip

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
        self.deliveries: list[Delivery] = []
        self.entries: list[Entry] = []
        self.dead_letters: list[DeadLetter] = []
        self.claims: list[Claim] = []
        self.due_of: Waiting | None = None
        self.due_ms: int | None = None
        """A waiting part and its earliest due time: asked for again and again, seldom changed."""
        self.hashed_id: str | None = None
        self.hashed = b""
        """An event's id and its 8-byte hash: several rules ask for it."""

    def wait(self, **changes: Any) -> None:
        """Replaces fields of the waiting part."""
        self.waiting = replace(self.waiting, **changes)

    def wait_too(self, waiting: Waiting, due_ms: int | None) -> None:
        """Takes a waiting part with more in it, due then: what waited before is due as it was."""
        known = self.next_due_ms()
        self.waiting = self.due_of = waiting
        if due_ms is not None and (known is None or due_ms < known):
            self.due_ms = due_ms

    def next_due_ms(self) -> int | None:
        """When the earliest of what waits is due; ``None`` when nothing waits for a time."""
        if self.due_of is not self.waiting:
            self.due_of, self.due_ms = self.waiting, next_due_ms(self.waiting)
        return self.due_ms

    def hash_of(self, event_id: str) -> bytes:
        """8-byte hash of an event's id, as lists of members have it."""
        if event_id != self.hashed_id:
            self.hashed_id, self.hashed = event_id, ids.hash8(event_id)
        return self.hashed

    def subject_id(self, what: str) -> str:
        """Id for a remark about the recipient as such: nothing that was to be told."""
        return ids.to_id(self.partition, ids.digest16(what, self.recipient_id))

    def has_room(self, more_bytes: int) -> bool:
        """Whether something of this weight may still wait for this recipient."""
        bound = self.policy.bounds.waiting_bytes_max
        return sizes.waiting_bytes(self.waiting) + more_bytes <= bound

    def conclude(
        self,
        notification: Notification,
        verdict: Verdict,
        reason: str,
        inputs: dict[str, str] = NO_INPUTS,
        *,
        until_ms: int | None = None,
        digest_id: str | None = None,
        deliveries: tuple[Sent, ...] = (),
    ) -> None:
        """Records a verdict on a notification."""
        self.entries.append(
            Entry(
                notification.notification_id,
                verdict,
                reason,
                RULES[reason],
                notification.category,
                notification.event_id,
                digest_id,
                until_ms,
                notification.count,
                deliveries,
                inputs,
                self.source,
            )
        )

    def end(
        self,
        notification: Notification,
        course: Course,
        verdict: Verdict,
        reason: str,
        inputs: dict[str, str] = NO_INPUTS,
    ) -> None:
        """Ends a notification. A later step of an escalation only notes that it goes no further:
        an earlier step was sent, and what became of that is the verdict."""
        self.conclude(notification, "noted" if course.step else verdict, reason, inputs)

    def note(
        self,
        subject_id: str,
        reason: str,
        category: str = "",
        event_id: str | None = None,
        inputs: dict[str, str] = NO_INPUTS,
        *,
        until_ms: int | None = None,
        deliveries: tuple[Sent, ...] = (),
    ) -> None:
        """Records something that ends nothing, so that the story can be told."""
        self.entries.append(
            Entry(
                subject_id,
                "noted",
                reason,
                RULES[reason],
                category,
                event_id,
                None,
                until_ms,
                1,
                deliveries,
                inputs,
                self.source,
            )
        )

    def note_about(
        self, notification: Notification, reason: str, inputs: dict[str, str] = NO_INPUTS
    ) -> None:
        """Records something about a notification that does not end it."""
        told = notification
        self.note(told.notification_id, reason, told.category, told.event_id, inputs)

    def bury(self, notification: Notification, reason: str, inputs: dict[str, str]) -> None:
        """Ends a notification that cannot be decided: a dead letter."""
        self.dead_letters.append(DeadLetter(reason, str(inputs), self.source))
        self.conclude(notification, "dead_lettered", reason, inputs)

    def hold(
        self,
        notification: Notification,
        due_ms: int,
        reason: str,
        inputs: dict[str, str] = NO_INPUTS,
        course: Course = FROM_THE_START,
        send_at_local: str = "",
        lifetime_ms: int = 0,
    ) -> None:
        """Lets a notification wait until ``due_ms``, but never beyond its expiry."""
        due_ms = max(self.now_ms + 1, min(due_ms, notification.expires_at_ms))
        bounds, waiting = self.policy.bounds, self.waiting
        size = sizes.notification_bytes(notification) + len(send_at_local)
        if len(waiting.held) >= bounds.held_max or not self.has_room(size):
            limit = f"{bounds.held_max} or {bounds.waiting_bytes_max} bytes"
            self.end(notification, course, "dropped", "held_overflow", {"limit": limit})
            return
        held = Held(
            packed(notification),
            due_ms,
            reason,
            self.now_ms,
            course.step,
            course.delivery_ids,
            size,
            send_at_local,
            lifetime_ms,
        )
        self.wait_too(replace(waiting, held=(*waiting.held, held)), due_ms)
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
            self.next_due_ms(),
        )
