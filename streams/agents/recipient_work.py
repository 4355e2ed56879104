"""One recipient during one batch: state read once, decided many times, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from streams import tables, topics
from streams.agents.returning import Return
from streams.codec import Codec
from streams.core import state_codec
from streams.core.decide import decide
from streams.core.model import (
    Activity,
    Claim,
    DeadLetter,
    Delivery,
    Entry,
    Input,
    RecipientState,
    Wake,
)
from streams.core.policy import Policy
from streams.engine.api import Due, Output, Result, StateView

DELIVERY_TOPICS = {
    (kind, critical): topics.deliveries(kind, critical)
    for kind in topics.KINDS
    for critical in (True, False)
}
FORGOTTEN_NAME = "(forgotten)"
"""Stands for the id in decisions about somebody who was forgotten."""


class RecipientWork:
    """State and effects of a recipient, batch-local."""

    __slots__ = (
        "activity_apart",
        "before",
        "claims",
        "comes_back",
        "dead_letters",
        "decided",
        "deliveries",
        "due_ms",
        "due_ms_before",
        "forgotten_since_ms",
        "is_new",
        "now_ms",
        "recipient_id",
        "state",
    )

    def __init__(
        self,
        state: RecipientState,
        due_ms: int | None,
        is_new: bool,
        activity_apart: bool = False,
    ) -> None:
        self.activity_apart = activity_apart
        """It was read from a key of its own, as an older release left it."""
        self.recipient_id = state.recipient_id
        self.state = self.before = state
        self.due_ms = self.due_ms_before = due_ms
        self.is_new = is_new
        """Nothing is known of the recipient here: the record may belong elsewhere."""
        self.forgotten_since_ms: int | None = None
        """Set for somebody who was forgotten: nothing of them is written; see forgetting.py."""
        self.comes_back: Return | None = None
        """Set for somebody who was forgotten and whose last word in this batch is a lift."""
        self.now_ms = 0
        self.decided: list[tuple[int, list[Entry]]] = []
        """Entries by time of decision: a record of ``decisions`` has one time."""
        self.deliveries: list[Delivery] = []
        self.claims: list[Claim] = []
        self.dead_letters: list[DeadLetter] = []

    def apply(self, entered: Input, now_ms: int, policy: Policy) -> None:
        """Decides one input and keeps what came of it."""
        decision = decide(self.state, entered, now_ms, policy)
        self.state = decision.state
        self.due_ms = decision.notify_at_ms
        self.now_ms = now_ms
        self.is_new = False
        if decision.entries:
            if self.decided and self.decided[-1][0] == now_ms:
                self.decided[-1][1].extend(decision.entries)
            else:
                self.decided.append((now_ms, list(decision.entries)))
        if decision.deliveries:
            self.deliveries.extend(decision.deliveries)
        if decision.claims:
            self.claims.extend(decision.claims)
        if decision.dead_letters:
            self.dead_letters.extend(decision.dead_letters)

    def wake_through(self, now_ms: int, policy: Policy) -> None:
        """Stream time: everything due by ``now_ms`` happens at its own due time, in order."""
        while self.due_ms is not None and self.due_ms <= now_ms:
            self.apply(Wake(self.recipient_id), self.due_ms, policy)

    def write(
        self,
        result: Result,
        codec: Codec,
        policy_version: str,
        stream_time: bool,
        emit_claims: Callable[[list[Claim], Result], None],
    ) -> None:
        """Adds the changed parts, the due entry, deliveries and decisions to the result."""
        key = self.recipient_id.encode()
        shown_id, shown_key = self.recipient_id, key
        if self.forgotten_since_ms is None:
            self._write_state(key, result)
        else:
            self._delete_state(key, result)
            shown_id, shown_key = FORGOTTEN_NAME, FORGOTTEN_NAME.encode()
        outputs = result.outputs
        for delivery in self.deliveries:
            topic = DELIVERY_TOPICS[delivery.kind, delivery.priority == "critical"]
            time_ms = delivery.decided_at_ms if stream_time else None
            outputs.append(Output(topic, key, codec.encode_delivery(delivery), None, time_ms))
        for decided_at_ms, entries in self.decided:
            value = codec.encode_decision(shown_id, decided_at_ms, policy_version, entries)
            time_ms = decided_at_ms if stream_time else None
            outputs.append(Output(topics.DECISIONS, shown_key, value, None, time_ms))
        if self.claims:
            emit_claims(self.claims, result)

    def _delete_state(self, key: bytes, result: Result) -> None:
        """Takes away what there was."""
        before = self.before
        for kind, part in (
            (tables.PROFILE, state_codec.encode_profile(before.profile)),
            (tables.MOVING, state_codec.encode_moving(before.activity, before.waiting)),
        ):
            if part is not None:
                result.changes[kind + key] = None
        if self.activity_apart:
            result.changes[tables.ACTIVITY + key] = None
        if self.due_ms_before is not None:
            result.due.append(Due(key, self.due_ms_before, None))

    def _write_state(self, key: bytes, result: Result) -> None:
        before, after = self.before, self.state
        if after is before:
            return
        if after.profile is not before.profile:
            result.changes[tables.PROFILE + key] = state_codec.encode_profile(after.profile)
        if after.activity is not before.activity or after.waiting is not before.waiting:
            moving = state_codec.encode_moving(after.activity, after.waiting)
            result.changes[tables.MOVING + key] = moving
            if self.activity_apart:
                result.changes[tables.ACTIVITY + key] = None
        if self.due_ms != self.due_ms_before:
            result.due.append(Due(key, self.due_ms_before, self.due_ms))


def load_all(
    view: StateView, partition: int, recipients: Iterable[str]
) -> dict[str, RecipientWork]:
    """Reads the state of every recipient of a batch at once; the answer keeps their order."""
    ordered = tuple(dict.fromkeys(recipients))
    keys: list[bytes] = []
    for recipient_id in ordered:
        key = recipient_id.encode()
        keys += (tables.PROFILE + key, tables.MOVING + key)
    values = view.get_many(keys) if keys else []
    apart = _activities_apart(view, ordered, values[1::2])
    work = {}
    for recipient_id, profile, moving in zip(ordered, values[::2], values[1::2], strict=True):
        activity, waiting = state_codec.decode_moving(moving)
        older = apart.get(recipient_id)
        if older is not None:
            activity = older
        state = RecipientState(
            recipient_id, partition, state_codec.decode_profile(profile), activity, waiting
        )
        is_new = profile is None and moving is None and older is None
        due_ms = state_codec.due_of_moving(moving)
        work[recipient_id] = RecipientWork(state, due_ms, is_new, older is not None)
    return work


def load_activities(view: StateView, recipients: Sequence[str]) -> list[Activity]:
    """Of each recipient, in their order, what they had and were sent."""
    values = view.get_many([tables.MOVING + recipient_id.encode() for recipient_id in recipients])
    apart = _activities_apart(view, recipients, values)
    return [
        apart.get(recipient_id) or state_codec.decode_moving(value)[0]
        for recipient_id, value in zip(recipients, values, strict=True)
    ]


def _activities_apart(
    view: StateView, recipients: Sequence[str], moving: Sequence[bytes | None]
) -> dict[str, Activity]:
    """Those under a key of their own, looked up only where one may be."""
    maybe = [
        recipient_id
        for recipient_id, value in zip(recipients, moving, strict=True)
        if not state_codec.has_activity(value)
    ]
    if not maybe:
        return {}
    values = view.get_many([tables.ACTIVITY + recipient_id.encode() for recipient_id in maybe])
    return {
        recipient_id: state_codec.decode_activity(value)
        for recipient_id, value in zip(maybe, values, strict=True)
        if value is not None
    }


def load_one(view: StateView, partition: int, recipient_id: str) -> RecipientWork:
    """Reads the state of one recipient."""
    return load_all(view, partition, [recipient_id])[recipient_id]
