"""Provider answers that need deciding again, and the retries that come of them.

A retry passes the rules again before it leaves: expiry, cancellation, kill switches, suppression,
preferences, snooze and quiet hours. Limits are not charged twice: it is the same send. Each answer
is dealt with once: an attempt not newer than the newest known is ignored.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import (
    cancel,
    offers,
    resend,
    retry,
    routing,
)
from streams.core.model import Delivery, Feedback, Retry
from streams.core.policy import Category
from streams.core.terms import Course
from streams.core.turn import Settle, Turn


def on_feedback(turn: Turn, feedback: Feedback, settle: Settle) -> None:
    """Decides what becomes of a delivery that its sink could not finish."""
    delivery, status = feedback.delivery, feedback.status
    known = retry.newest_of(turn.waiting.attempted, delivery.delivery_id)
    if known is not None and (known.epoch, known.attempt) >= (delivery.epoch, delivery.attempt):
        return
    stale_count = (known.stale_count if known else 0) + 1 if status == "stale" else 0
    bound = turn.policy.bounds.attempted_max
    turn.wait(
        attempted=retry.note(turn.waiting.attempted, delivery, turn.now_ms, bound, stale_count),
        retries=_without(turn.waiting.retries, delivery),
    )
    answer = {"answer": feedback.reason, "attempt": str(delivery.attempt)}
    if status == "retry" or (status == "ambiguous" and delivery.on_ambiguous == "resend"):
        _schedule(turn, feedback, answer)
    elif status == "ambiguous":
        resend.conclude_delivery(turn, delivery, "dropped", "ambiguous_given_up", answer)
    elif status == "unregistered":
        _unregister(turn, feedback, settle)
    elif status == "stale" and stale_count > turn.policy.bounds.stale_max:
        inputs = {"times": str(stale_count), "answer": feedback.reason}
        resend.give_up(turn, delivery, "stale_exhausted", inputs)
    elif status == "stale":
        again = replace(delivery, epoch=delivery.epoch + 1)
        resend.send_again(turn, again, "decided_again", answer)
    elif status == "redrive":
        resend.send_again(turn, replace(delivery, attempt=1), "redriven", {})
    elif status == "killed":
        resend.conclude_delivery(turn, delivery, "dropped", "killed", {"switch": feedback.reason})
    elif status == "rejected" and feedback.reason == "no_provider":
        # Nobody has refused it: it was not asked. Once there is a provider it can be sent.
        resend.give_up(turn, delivery, "no_provider", {**answer, "kind": delivery.kind})
    elif status == "rejected":
        replaced = feedback.reason == "collapsed"
        resend.conclude_delivery(
            turn, delivery, "dropped", "replaced" if replaced else "rejected", answer
        )


def release_retry(turn: Turn, waiting: Retry) -> None:
    """Makes the next attempt of a delivery, if every rule still allows it."""
    again = replace(waiting.delivery, attempt=waiting.delivery.attempt + 1)
    inputs = {"attempt": str(again.attempt), "answer": waiting.reason}
    resend.send_again(turn, again, "retried", inputs)


def _schedule(turn: Turn, feedback: Feedback, answer: dict[str, str]) -> None:
    delivery = feedback.delivery
    category = turn.policy.categories.get(delivery.category) or Category(delivery.category)
    rule = category.retry
    if why := cancel.meanwhile(turn, delivery):
        return resend.conclude_delivery(turn, delivery, "cancelled", why, answer)
    if delivery.attempt >= rule.attempts_max:
        inputs = {"attempts": str(delivery.attempt), "answer": feedback.reason}
        return resend.give_up(turn, delivery, "attempts_exhausted", inputs)
    due_ms = retry.due_ms(rule, feedback, turn.now_ms)
    if due_ms >= delivery.expires_at_ms:
        return resend.conclude_delivery(turn, delivery, "expired", "expired", answer)
    return resend.wait(turn, delivery, due_ms, "retry_scheduled", feedback.reason, answer)


def _unregister(turn: Turn, feedback: Feedback, settle: Settle) -> None:
    """The provider knows the address no more: forgets it, and tries another channel.

    An address registered after the answer is another one, and stays.
    """
    delivery = feedback.delivery
    known = resend.destination_of(turn, delivery)
    if (
        known is not None
        and known.address == delivery.address
        and known.registered_at_ms <= feedback.at_ms
    ):
        kept = tuple(d for d in turn.profile.destinations if d is not known)
        turn.profile = replace(turn.profile, destinations=kept)
        turn.note(
            delivery.notification_id,
            "destination_removed",
            delivery.category,
            delivery.event_id,
            {"why": feedback.reason, "destination": known.destination_id},
        )
    category = turn.policy.categories.get(delivery.category)
    inputs = {"scope": f"destination:{delivery.destination_id}", "answer": feedback.reason}
    if category is not None and category.route == "first" and _may_fall_back(turn, delivery):
        course = Course(without=delivery.channel, charged=True, reason="fallback")
        return settle(turn, routing.notification_of(delivery), course)
    resend.conclude_delivery(turn, delivery, "suppressed", "unregistered", inputs)
    if category is not None and category.route == "escalate":
        _escalate_now(turn, delivery, settle)
    return None


def _escalate_now(turn: Turn, delivery: Delivery, settle: Settle) -> None:
    """Takes the next step at once, if one is planned: nobody can see this one any more."""
    waiting = turn.waiting.escalations
    for planned in waiting:
        if planned.is_about(delivery.notification_id):
            turn.wait(escalations=tuple(other for other in waiting if other is not planned))
            course = Course(planned.next_step, planned.delivery_ids, None, True, "fallback")
            return settle(turn, planned.notification, course)
    return None


def _may_fall_back(turn: Turn, delivery: Delivery) -> bool:
    """Whether another channel takes over: once, and only when the channel has no address left."""
    now_ms, policy = turn.now_ms, turn.policy
    if offers.open_destinations(turn.profile, delivery.channel, policy, now_ms):
        return False  # A sibling on the same channel has it already.
    mark = f"{delivery.notification_id}/{delivery.channel}"
    if retry.newest_of(turn.waiting.attempted, mark) is not None:
        return False
    left = replace(delivery, delivery_id=mark)
    bound = policy.bounds.attempted_max
    turn.wait(attempted=retry.note(turn.waiting.attempted, left, now_ms, bound))
    return True


def _without(retries: tuple[Retry, ...], delivery: Delivery) -> tuple[Retry, ...]:
    """Retries without those of this delivery: a newer answer takes their place."""
    if not any(waiting.delivery.delivery_id == delivery.delivery_id for waiting in retries):
        return retries
    return tuple(w for w in retries if w.delivery.delivery_id != delivery.delivery_id)
