"""Retries: exponential with full jitter, the provider's own wish honoured, bounded.

The jitter is derived from the delivery and the attempt, so a replay schedules the same moment.
An attempt is known by (epoch, attempt): epoch is raised by a redrive and by every decision made
again, attempt by every try.
"""

from __future__ import annotations

from streams.core import ids
from streams.core.model import Attempted, Delivery, Feedback
from streams.core.policy import RetryRule


def delay_ms(rule: RetryRule, delivery: Delivery) -> int:
    """Delay before the next attempt: random(0, min(max, base * 2**(attempt - 1)))."""
    doubled = rule.delay_ms << min(max(delivery.attempt - 1, 0), 40)
    key = f"{delivery.delivery_id}/{delivery.epoch}/{delivery.attempt}"
    return 1 + ids.jitter(key, min(rule.delay_ms_max, doubled))


def due_ms(rule: RetryRule, feedback: Feedback, now_ms: int) -> int:
    """When to try again: after the backoff, and not before the provider said."""
    due = now_ms + delay_ms(rule, feedback.delivery)
    if feedback.retry_after_ms is not None:
        due = max(due, feedback.at_ms + feedback.retry_after_ms)
    return due


def newest_of(attempted: tuple[Attempted, ...], delivery_id: str) -> Attempted | None:
    """The newest answer that was dealt with, or ``None``."""
    return next((known for known in attempted if known.delivery_id == delivery_id), None)


def first_epoch(attempted: tuple[Attempted, ...], delivery_id: str) -> int:
    """Epoch of a new delivery: 0, or above what is known when the same event came again, after
    the dedupe horizon: else the answers to it would be taken for old ones."""
    known = newest_of(attempted, delivery_id) if attempted else None
    return known.epoch + 1 if known else 0


def note(
    attempted: tuple[Attempted, ...],
    delivery: Delivery,
    now_ms: int,
    count_max: int,
    stale_count: int = 0,
) -> tuple[Attempted, ...]:
    """Remembers that this answer was dealt with, for as long as the delivery may live."""
    kept = [
        known
        for known in attempted
        if known.delivery_id != delivery.delivery_id and known.forget_at_ms > now_ms
    ]
    forget_at_ms = max(delivery.expires_at_ms, now_ms) + 1
    new = Attempted(
        delivery.delivery_id, delivery.epoch, delivery.attempt, forget_at_ms, stale_count
    )
    return (*kept[max(0, len(kept) + 1 - count_max) :], new)
