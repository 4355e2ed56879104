"""Releases what is due: held notifications, digests, retries and escalations.

Everything released passes the rules again through ``settle``. Several due at once go in order of
priority, then of age (when Kafka took the event), so that the more urgent takes the slot that a
limit has freed, and nobody loses their place by waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from streams.core import digest, retries
from streams.core.model import (
    PRIORITY_RANK,
    Delivery,
    Escalation,
    Held,
    Notification,
    OpenDigest,
)
from streams.core.terms import Course
from streams.core.turn import Settle, Turn

Order = tuple[int, int]
"""(rank of the priority, append time)."""


def is_overdue(turn: Turn) -> bool:
    """Whether anything is due by ``turn.now_ms``."""
    due_ms = turn.next_due_ms()
    return due_ms is not None and due_ms <= turn.now_ms


def release_due(turn: Turn, settle: Settle) -> None:
    """Takes everything due by ``turn.now_ms`` out of the waiting part and settles it.

    What that makes due in turn (a digest that it filled) follows at once; each round ends
    something or gives it a later time, so the rounds end.
    """
    due_ms = turn.next_due_ms()
    if due_ms is None or due_ms > turn.now_ms:
        return
    source, turn.source = turn.source, None  # Time caused what follows, no record did.
    while due_ms is not None and due_ms <= turn.now_ms:
        for act in _take_due(turn, settle):
            act()
        due_ms = turn.next_due_ms()
    turn.source = source


def _take_due(turn: Turn, settle: Settle) -> list[Callable[[], None]]:
    """What is due, taken out, as acts in their order."""
    now_ms, waiting = turn.now_ms, turn.waiting
    turn.wait(
        held=tuple(item for item in waiting.held if item.due_ms > now_ms),
        digests=tuple(item for item in waiting.digests if item.closes_at_ms > now_ms),
        retries=tuple(item for item in waiting.retries if item.due_ms > now_ms),
        escalations=tuple(item for item in waiting.escalations if item.due_ms > now_ms),
    )
    acts: list[tuple[Order, Callable[[], None]]] = []
    for held in waiting.held:
        if held.due_ms <= now_ms:
            told = held.notification
            acts.append((_order(told), partial(_release_held, turn, held, told, settle)))
    acts += [
        (_order(opened), partial(_close_digest, turn, opened, settle))
        for opened in waiting.digests
        if opened.closes_at_ms <= now_ms
    ]
    acts += [
        (_order(retry.delivery), partial(retries.release_retry, turn, retry))
        for retry in waiting.retries
        if retry.due_ms <= now_ms
    ]
    for step in waiting.escalations:
        if step.due_ms <= now_ms:
            told = step.notification
            acts.append((_order(told), partial(_escalate, turn, step, told, settle)))
    return [act for _, act in sorted(acts, key=lambda pair: pair[0])]


def _order(thing: Notification | OpenDigest | Delivery) -> Order:
    return PRIORITY_RANK[thing.priority], thing.appended_at_ms


def _release_held(turn: Turn, held: Held, told: Notification, settle: Settle) -> None:
    reason = "escalated" if held.step else "released"
    course = Course(held.step, held.delivery_ids, None, False, reason)
    settle(turn, told, course)


def _close_digest(turn: Turn, opened: OpenDigest, settle: Settle) -> None:
    """Ends the gathering and settles what was gathered; an emptied digest just ends."""
    notification = digest.to_notification(opened)
    reason = opened.closing if opened.count else "digest_empty"
    inputs = {"events": str(opened.count), "key": opened.key}
    turn.conclude(notification, "digest_closed", reason, inputs, digest_id=opened.digest_id)
    if opened.count:
        settle(turn, notification, Course(reason="digest_sent"))


def _escalate(turn: Turn, planned: Escalation, told: Notification, settle: Settle) -> None:
    course = Course(planned.next_step, planned.delivery_ids, None, False, "escalated")
    settle(turn, told, course)
