"""Releases what is due: held notifications, digests, retries and escalations.

Everything released passes the rules again through ``settle``. Several due at once go in order of
priority, then of age, so that the more urgent takes the slot that a limit has freed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from streams.core import digest, retries
from streams.core.model import Escalation, Held, Notification, OpenDigest
from streams.core.policy import Category
from streams.core.state_codec import next_due_ms
from streams.core.turn import Settle, Turn

_RANK = {"critical": 0, "normal": 1, "bulk": 2}


def release_due(turn: Turn, settle: Settle) -> None:
    """Takes everything due by ``turn.now_ms`` out of the waiting part and settles it."""
    due_ms = next_due_ms(turn.waiting)
    if due_ms is None or due_ms > turn.now_ms:
        return
    now_ms, waiting = turn.now_ms, turn.waiting
    source, turn.source = turn.source, None  # Time caused what follows, no record did.
    turn.wait(
        held=tuple(item for item in waiting.held if item.due_ms > now_ms),
        digests=tuple(item for item in waiting.digests if item.closes_at_ms > now_ms),
        retries=tuple(item for item in waiting.retries if item.due_ms > now_ms),
        escalations=tuple(item for item in waiting.escalations if item.due_ms > now_ms),
    )
    ordered: list[tuple[tuple[int, int, str], Callable[[], None]]] = []
    for held in waiting.held:
        if held.due_ms <= now_ms:
            release = partial(_release_held, turn, held, settle)
            ordered.append((_order(held.notification, held.since_ms), release))
    for opened in waiting.digests:
        if opened.closes_at_ms <= now_ms:
            key = (_RANK[opened.priority], opened.opened_at_ms, opened.digest_id)
            ordered.append((key, partial(_close_digest, turn, opened, settle)))
    for retry in waiting.retries:
        if retry.due_ms <= now_ms:
            delivery = retry.delivery
            key = (_RANK[delivery.priority], delivery.decided_at_ms, delivery.delivery_id)
            ordered.append((key, partial(retries.release_retry, turn, retry)))
    for escalation in waiting.escalations:
        if escalation.due_ms <= now_ms:
            key = _order(escalation.notification, escalation.due_ms)
            ordered.append((key, partial(_escalate, turn, escalation, settle)))
    for _, act in sorted(ordered, key=lambda pair: pair[0]):
        act()
    turn.source = source


def _order(notification: Notification, since_ms: int) -> tuple[int, int, str]:
    return (_RANK[notification.priority], since_ms, notification.notification_id)


def _release_held(turn: Turn, held: Held, settle: Settle) -> None:
    reason = "escalated" if held.step else "routed"
    settle(turn, held.notification, held.step, None, reason)


def _close_digest(turn: Turn, opened: OpenDigest, settle: Settle) -> None:
    """Ends the gathering and settles what was gathered; an emptied digest just ends."""
    category = turn.policy.categories.get(opened.category) or Category(opened.category)
    notification = digest.to_notification(opened, category, turn.now_ms)
    reason = "digest_due"
    if opened.count == 0:
        reason = "digest_empty"
    elif opened.closes_at_ms <= opened.last_at_ms:
        reason = "digest_full"
    inputs = {"events": str(opened.count), "limit": str(opened.count)}
    turn.conclude(notification, "digest_closed", reason, inputs, digest_id=opened.digest_id)
    if opened.count:
        settle(turn, notification)


def _escalate(turn: Turn, escalation: Escalation, settle: Settle) -> None:
    settle(turn, escalation.notification, escalation.next_step, None, "escalated")
