"""Withdrawal of what has not been handed over: by cancellation, by supersession, by collapse.

The answer is always given, once: what was taken out is concluded as cancelled, what is gone is too
late, and what has not arrived yet will be cancelled on arrival. A withdrawal is remembered for
``cancel_horizon_ms``, so that a provider's "try again later" does not bring back what was
withdrawn while it was on its way. Of a collapse key the newest event by append time wins,
whatever order the lanes deliver it in.
"""

from __future__ import annotations

import operator
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from streams.core import dedupe, ids, members, routing
from streams.core.model import (
    Cancellation,
    DeadLetter,
    Delivery,
    Event,
    Notification,
    OpenDigest,
    Packed,
    packed,
)
from streams.core.turn import NO_INPUTS, Turn

ANY_CATEGORY = "*"
T = TypeVar("T")


class Wanted(NamedTuple):
    """What is to be withdrawn: an event, or what has a collapse key (in a category)."""

    event_id: str | None
    collapse_key: str | None = None
    category: str | None = None

    def matches(self, thing: Notification | Delivery) -> bool:
        """Is this single notification or delivery meant?"""
        if self.event_id is not None:
            return thing.event_id == self.event_id
        return thing.collapse_key == self.collapse_key and self.category in (None, thing.category)

    def is_in(self, waits: Packed) -> bool:
        """Is what waits the single notification that is meant? Decoded only where it may be."""
        text = self.event_id if self.event_id is not None else self.collapse_key or ""
        return waits.may_mention(text.encode()) and self.matches(waits.notification)

    @property
    def member_text(self) -> bytes:
        """What is in the bytes of every closed digest that has a member that is meant."""
        if self.event_id is not None:
            return ids.hash8(self.event_id)
        return (self.collapse_key or "").encode()

    def member_of(self, opened: OpenDigest | Notification) -> str | None:
        """Event id of the member of a digest that is meant, if one is."""
        event_id = self.event_id
        if event_id is None:
            if self.category not in (None, opened.category):
                return None
            event_id = opened.collapse.get(self.collapse_key or "")
        if event_id is None or members.position(opened.members, event_id) < 0:
            return None
        return event_id


def before_arrival(turn: Turn, event: Event, appended_at_ms: int) -> str | None:
    """Reason code when an event was withdrawn before it came, or ``None``."""
    waiting = turn.waiting
    if waiting.cancelled and was_cancelled(turn, event.event_id):
        return "cancelled_before_arrival"
    if not waiting.newest:
        return None
    return _outdated(turn, event.category, event.collapse_key, appended_at_ms)


def meanwhile(turn: Turn, delivery: Delivery) -> str | None:
    """Reason code when a delivery was withdrawn while it was on its way, or ``None``."""
    if delivery.event_id is not None and was_cancelled(turn, delivery.event_id):
        return "cancelled"
    return _outdated(turn, delivery.category, delivery.collapse_key, delivery.appended_at_ms)


def was_cancelled(turn: Turn, event_id: str) -> bool:
    """Was this event cancelled or superseded within the horizon?"""
    known = turn.waiting.cancelled
    if not known:
        return False
    wanted = ids.hash8(event_id)
    return any(mark == wanted and forget_at_ms > turn.now_ms for mark, forget_at_ms in known)


def on_cancellation(turn: Turn, request: Cancellation) -> None:
    """Withdraws what waits, and answers: cancelled, too late, or remembered for later."""
    longest = max(
        len((request.event_id or "").encode()), len((request.collapse_key or "").encode())
    )
    if longest > turn.policy.bounds.id_bytes_max:
        limit = {"field": "event_id or collapse_key", "limit": str(turn.policy.bounds.id_bytes_max)}
        turn.dead_letters.append(DeadLetter("id_too_long", str(limit), turn.source))
        return
    if request.collapse_key is not None:
        _cancel_collapsed(turn, request.collapse_key, request.source.appended_at_ms)
    if request.event_id is not None:
        _withdraw_event(turn, request.event_id, "cancelled", NO_INPUTS)


def replace_older(turn: Turn, event: Event, appended_at_ms: int) -> None:
    """Withdraws what a new event supersedes or collapses."""
    older_id, collapse_key = event.supersedes, event.collapse_key
    if older_id is None and collapse_key is None:
        return
    by = {"by": event.event_id}
    if older_id is not None and older_id != event.event_id:
        _withdraw_event(turn, older_id, "superseded", by)
    if collapse_key is not None:
        withdraw(turn, Wanted(None, collapse_key, event.category), "collapsed", by)
        _remember_newest(turn, f"{event.category}|{collapse_key}", appended_at_ms)


def _withdraw_event(turn: Turn, event_id: str, reason: str, inputs: dict[str, str]) -> None:
    """Takes one event out of what waits, remembers that, and answers."""
    if was_cancelled(turn, event_id):
        return  # Answered before.
    bound = turn.policy.bounds.cancelled_max
    kept = [pair for pair in turn.waiting.cancelled if pair[1] > turn.now_ms]
    mark = (ids.hash8(event_id), turn.now_ms + turn.policy.cancel_horizon_ms)
    turn.wait(cancelled=(*kept[max(0, len(kept) + 1 - bound) :], mark))
    if withdraw(turn, Wanted(event_id), reason, inputs):
        return
    event_hash = ids.event_digest(event_id, turn.recipient_id)
    since_hour = dedupe.since_hour(turn.now_ms, turn.policy)
    seen = dedupe.was_seen(turn.activity, event_hash[:8], since_hour) is not None
    answer = "too_late_to_cancel" if seen else "cancel_remembered"
    turn.note(ids.to_id(turn.partition, event_hash), answer, event_id=event_id, inputs=inputs)


def _cancel_collapsed(turn: Turn, collapse_key: str, requested_at_ms: int) -> None:
    """Takes everything with a collapse key out of what waits, remembers that, and answers."""
    name = f"{ANY_CATEGORY}|{collapse_key}"
    if turn.waiting.newest.get(name, -1) > requested_at_ms:
        return  # This, or a later one, was answered before.
    _remember_newest(turn, name, requested_at_ms + 1)
    if not withdraw(turn, Wanted(None, collapse_key), "cancelled", NO_INPUTS):
        subject_id = turn.subject_id(f"collapse/{collapse_key}")
        turn.note(subject_id, "too_late_to_cancel", inputs={"collapse_key": collapse_key})


def withdraw(turn: Turn, wanted: Wanted, reason: str, inputs: dict[str, str]) -> bool:
    """Removes what is meant from everything that waits and concludes it; False: nothing was."""
    waiting = turn.waiting
    held = [item for item in waiting.held if wanted.is_in(item)]
    retries = [item for item in waiting.retries if wanted.matches(item.delivery)]
    planned = [item for item in waiting.escalations if wanted.is_in(item)]
    if held or retries or planned:
        turn.wait(
            held=tuple(i for i in waiting.held if not wanted.is_in(i)),
            retries=tuple(i for i in waiting.retries if not wanted.matches(i.delivery)),
            escalations=tuple(i for i in waiting.escalations if not wanted.is_in(i)),
        )
    told = [item.notification for item in held if not item.step]
    gone = {notification.notification_id: notification for notification in told}
    for retry in retries:
        gone[retry.delivery.notification_id] = routing.notification_of(retry.delivery)
    for notification in gone.values():
        turn.conclude(notification, "cancelled", reason, inputs)
    for step in held:
        if step.step:
            turn.note_about(step.notification, "step_ended", {**inputs, "by": reason})
    for plan in planned:
        turn.note_about(plan.notification, "escalation_ended", {**inputs, "by": reason})
    left_digest = _leave_open_digests(turn, wanted, reason, inputs)
    left_held = _leave_held_digests(turn, wanted, reason, inputs)
    return bool(gone) or left_digest or left_held


def _leave_open_digests(turn: Turn, wanted: Wanted, reason: str, inputs: dict[str, str]) -> bool:
    """Takes an event out of the open digests that hold it."""
    digests = []
    for opened in turn.waiting.digests:
        event_id = wanted.member_of(opened)
        if event_id is None:
            digests.append(opened)
            continue
        at = members.position(opened.members, event_id)
        _conclude_member(turn, event_id, opened.category, opened.digest_id, reason, inputs)
        digests.append(members.leave_open(opened, {at}))
    return _changed(turn, "digests", turn.waiting.digests, digests)


def _leave_held_digests(turn: Turn, wanted: Wanted, reason: str, inputs: dict[str, str]) -> bool:
    """Takes an event out of the closed digests that are held; an emptied one goes."""
    if not turn.waiting.held:
        return False
    kept, text = [], wanted.member_text
    for held in turn.waiting.held:
        if not held.may_mention(text):
            kept.append(held)
            continue
        told = held.notification
        event_id = wanted.member_of(told) if told.members else None
        if event_id is None:
            kept.append(held)
            continue
        at = members.position(told.members, event_id)
        _conclude_member(turn, event_id, told.category, told.notification_id, reason, inputs)
        left = members.leave_closed(told, {at})
        if left.count:
            kept.append(replace(held, told=packed(left)))
        else:
            turn.conclude(left, "cancelled", "digest_empty")
    return _changed(turn, "held", turn.waiting.held, kept)


def _changed(turn: Turn, field: str, before: tuple[T, ...], after: list[T]) -> bool:
    if len(before) == len(after) and all(map(operator.is_, before, after)):
        return False
    turn.wait(**{field: tuple(after)})
    return True


def _conclude_member(
    turn: Turn,
    event_id: str,
    category: str,
    digest_id: str,
    reason: str,
    inputs: dict[str, str],
) -> None:
    """The verdict on an event that left a digest: of its own, little is known any more."""
    subject_id = ids.to_id(turn.partition, ids.event_digest(event_id, turn.recipient_id))
    left = Notification(subject_id, category, "normal", 0, 0, 0, {}, event_id)
    turn.conclude(left, "cancelled", reason, inputs, digest_id=digest_id)


def _outdated(
    turn: Turn, category: str, collapse_key: str | None, appended_at_ms: int
) -> str | None:
    """Reason code when something newer has this collapse key, or it was cancelled by it."""
    newest = turn.waiting.newest
    if not newest or collapse_key is None:
        return None
    if appended_at_ms < newest.get(f"{ANY_CATEGORY}|{collapse_key}", 0):
        return "cancelled_before_arrival"
    return "collapsed" if appended_at_ms < newest.get(f"{category}|{collapse_key}", 0) else None


def _remember_newest(turn: Turn, name: str, at_ms: int) -> None:
    known, bound = turn.waiting.newest, turn.policy.bounds.collapse_keys_max
    if known.get(name, -1) >= at_ms:
        return
    if len(known) >= bound and name not in known:
        since_ms = turn.now_ms - turn.policy.cancel_horizon_ms
        known = {key: ms for key, ms in known.items() if ms > since_ms}
        if len(known) >= bound:
            oldest = min(known, key=lambda key: (known[key], key))
            known = {key: ms for key, ms in known.items() if key != oldest}
    turn.wait(newest={**known, name: at_ms})
