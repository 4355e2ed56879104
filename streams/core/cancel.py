"""Withdrawal of what has not been handed over: by cancellation, by supersession, by collapse.

The answer is always given: what was taken out is concluded as cancelled, what is gone is too
late, and what has not arrived yet will be cancelled on arrival.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.core import dedupe, digest, ids, routing
from streams.core.model import Cancellation, Delivery, Event, Notification
from streams.core.policy import DAY_MS
from streams.core.turn import Turn


def was_cancelled(turn: Turn, event_id: str) -> bool:
    """Did a cancellation of this event come before it?"""
    wanted = ids.hash8(event_id) if turn.waiting.cancelled else b""
    return any(known == wanted for known, _ in turn.waiting.cancelled)


def on_cancellation(turn: Turn, request: Cancellation) -> None:
    """Withdraws what waits, and answers: cancelled, too late, or remembered for later."""
    if request.collapse_key is not None:
        withdraw_collapsed(turn, request.collapse_key, None, "cancelled", {})
    if request.event_id is None:
        return
    if withdraw(turn, request.event_id, None, "cancelled", {}):
        return
    event_hash = ids.event_digest(request.event_id, turn.recipient_id)
    subject_id = ids.to_id(turn.partition, event_hash)
    seen = any(dedupe.find(bucket, event_hash[:8]) >= 0 for _, bucket in turn.activity.seen)
    if seen:
        turn.note(subject_id, "too_late_to_cancel", event_id=request.event_id)
        return
    if was_cancelled(turn, request.event_id):
        return
    bound = turn.policy.bounds.cancelled_max
    kept = [pair for pair in turn.waiting.cancelled if pair[1] > turn.now_ms][-(bound - 1) :]
    mark = (ids.hash8(request.event_id), turn.now_ms + DAY_MS)
    turn.wait(cancelled=(*kept, mark))
    turn.note(subject_id, "cancel_remembered", event_id=request.event_id)


def withdraw(
    turn: Turn, event_id: str | None, newer: Event | None, reason: str, inputs: dict[str, str]
) -> bool:
    """Takes an event (or what a newer event collapses) out of everything that waits."""
    if newer is not None and newer.collapse_key is not None:
        return withdraw_collapsed(turn, newer.collapse_key, newer.category, reason, inputs)
    if event_id is None:
        return False
    found = _withdraw_where(
        turn, lambda n: n.event_id == event_id, lambda d: d.event_id == event_id, reason, inputs
    )
    return _leave_digests(turn, event_id, reason, inputs) or found


def withdraw_collapsed(
    turn: Turn, collapse_key: str, category: str | None, reason: str, inputs: dict[str, str]
) -> bool:
    """Takes everything with a collapse key (of a category) out of what waits."""

    def collapses(thing: object) -> bool:
        return getattr(thing, "collapse_key", None) == collapse_key and category in (
            None,
            getattr(thing, "category", None),
        )

    return _withdraw_where(turn, collapses, collapses, reason, inputs)


def _withdraw_where(
    turn: Turn,
    about: Callable[[Notification], bool],
    of: Callable[[Delivery], bool],
    reason: str,
    inputs: dict[str, str],
) -> bool:
    """Removes held notifications, retries and escalations that match, and concludes them."""
    waiting = turn.waiting
    gone: dict[str, Notification] = {}
    for held in waiting.held:
        if about(held.notification):
            gone[held.notification.notification_id] = held.notification
    for retry in waiting.retries:
        if of(retry.delivery):
            gone[retry.delivery.notification_id] = routing.notification_of(retry.delivery)
    escalations = tuple(e for e in waiting.escalations if not about(e.notification))
    if not gone and len(escalations) == len(waiting.escalations):
        return False
    turn.wait(
        held=tuple(item for item in waiting.held if not about(item.notification)),
        retries=tuple(item for item in waiting.retries if not of(item.delivery)),
        escalations=escalations,
    )
    for notification in gone.values():
        turn.conclude(notification, "cancelled", reason, inputs)
    return bool(gone)


def _leave_digests(turn: Turn, event_id: str, reason: str, inputs: dict[str, str]) -> bool:
    """Takes a cancelled event out of the open digest that holds it."""
    for opened in turn.waiting.digests:
        smaller = digest.remove(opened, event_id)
        if smaller is None:
            continue
        others = tuple(d for d in turn.waiting.digests if d is not opened)
        turn.wait(digests=(*others, smaller))
        subject_id = ids.to_id(turn.partition, ids.event_digest(event_id, turn.recipient_id))
        left = Notification(
            subject_id,
            opened.category,
            opened.priority,
            opened.last_at_ms,
            opened.appended_at_ms,
            opened.expires_at_ms,
            {},
            event_id,
        )
        turn.conclude(left, "cancelled", reason, inputs, digest_id=opened.digest_id)
        return True
    return False
