"""Provider answers that need deciding again, and the retries that come of them.

A retry passes the rules again before it leaves: expiry, kill switches, suppression, preferences,
snooze and quiet hours. Limits are not charged twice. Each answer is dealt with once: an attempt
not newer than the newest known is ignored.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import (
    preferences,
    quiet_hours,
    retry,
    routing,
    suppression,
)
from streams.core.model import DeadLetter, Delivery, Destination, Feedback, Retry, Verdict
from streams.core.policy import Category
from streams.core.turn import Settle, Turn


def on_feedback(turn: Turn, feedback: Feedback, settle: Settle) -> None:
    """Decides what becomes of a delivery that its sink could not finish."""
    delivery = feedback.delivery
    if retry.is_known(turn.waiting.attempted, delivery):
        return
    bound = turn.policy.bounds.attempted_max
    turn.wait(attempted=retry.note(turn.waiting.attempted, delivery, turn.now_ms, bound))
    category = turn.policy.categories.get(delivery.category) or Category(delivery.category)
    status = feedback.status
    answer = {"answer": feedback.reason, "attempt": str(delivery.attempt)}
    if status == "retry" or (status == "ambiguous" and delivery.on_ambiguous == "resend"):
        _schedule(turn, feedback, category, answer)
    elif status == "ambiguous":
        _conclude(turn, delivery, "dropped", "ambiguous_given_up", answer)
    elif status == "unregistered":
        _unregister(turn, feedback, category, settle)
    elif status == "stale":
        again = replace(delivery, epoch=delivery.epoch + 1)
        _send_again(turn, again, category, "decided_again", answer)
    elif status == "redrive":
        _send_again(turn, replace(delivery, attempt=1), category, "redriven", {})
    elif status == "killed":
        _conclude(turn, delivery, "dropped", "killed", {"switch": feedback.reason})
    elif status == "rejected":
        _conclude(turn, delivery, "dropped", "rejected", answer)


def release_retry(turn: Turn, waiting: Retry) -> None:
    """Makes the next attempt of a delivery, if every rule still allows it."""
    delivery = waiting.delivery
    category = turn.policy.categories.get(delivery.category) or Category(delivery.category)
    again = replace(delivery, attempt=delivery.attempt + 1)
    inputs = {"attempt": str(again.attempt), "answer": waiting.reason}
    _send_again(turn, again, category, "retried", inputs, waiting.delivery)


def _schedule(turn: Turn, feedback: Feedback, category: Category, answer: dict[str, str]) -> None:
    delivery, rule = feedback.delivery, category.retry
    full = len(turn.waiting.retries) >= turn.policy.bounds.retries_max
    if delivery.attempt >= rule.attempts_max or full:
        inputs = {"attempts": str(delivery.attempt), "answer": feedback.reason}
        turn.dead_letters.append(
            DeadLetter("attempts_exhausted", feedback.reason, turn.source, delivery)
        )
        return _conclude(turn, delivery, "dead_lettered", "attempts_exhausted", inputs)
    due_ms = retry.due_ms(rule, feedback, turn.now_ms)
    if due_ms >= delivery.expires_at_ms:
        return _conclude(turn, delivery, "expired", "expired", answer)
    turn.wait(retries=(*turn.waiting.retries, Retry(delivery, due_ms, feedback.reason)))
    return _conclude(turn, delivery, "retrying", "retry_scheduled", answer, due_ms)


def _send_again(
    turn: Turn,
    delivery: Delivery,
    category: Category,
    reason: str,
    inputs: dict[str, str],
    as_known: Delivery | None = None,
) -> None:
    """Rules 3 to 6 on one delivery; then it leaves once more, with fresh times.

    ``as_known`` is the delivery to keep when it has to wait on: the attempt not yet made.
    """
    now_ms, profile = turn.now_ms, turn.profile
    if delivery.expires_at_ms <= now_ms:
        return _conclude(turn, delivery, "expired", "expired", inputs)
    if blocked := _blocked(turn, delivery, category):
        verdict, why, extra = blocked
        return _conclude(turn, delivery, verdict, why, {**inputs, **extra})
    notification = routing.notification_of(delivery)
    if delivery.priority != "critical":
        loud = not (
            category.quiet_action == "downgrade" and delivery.channel in category.downgrade_to
        )
        until_ms = quiet_hours.quiet_until(profile.preferences, now_ms) if loud else None
        until_ms = max(until_ms or 0, profile.preferences.snooze_until_ms)
        if until_ms > now_ms:
            if until_ms >= delivery.expires_at_ms:
                return _conclude(turn, delivery, "expired", "expired", inputs)
            kept = as_known or replace(delivery, attempt=delivery.attempt - 1)
            turn.wait(retries=(*turn.waiting.retries, Retry(kept, until_ms, reason)))
            return _conclude(turn, delivery, "retrying", "quiet_hours", inputs, until_ms)
    valid_until_ms = routing.valid_until(turn, category, notification, delivery.channel)
    fresh = replace(
        delivery,
        decided_at_ms=now_ms,
        valid_until_ms=valid_until_ms,
        locale=profile.preferences.locale,
        policy_version=turn.policy.version,
    )
    turn.deliveries.append(fresh)
    return turn.conclude(
        notification, "delivering", reason, inputs, deliveries=(routing.sent_of(fresh),)
    )


def _blocked(
    turn: Turn, delivery: Delivery, category: Category
) -> tuple[Verdict, str, dict[str, str]] | None:
    """The rule that no longer allows this delivery: (verdict, reason, inputs)."""
    profile, kills = turn.profile, turn.policy.kills
    switches = {
        "all",
        f"category:{delivery.category}",
        f"campaign:{delivery.campaign}",
        f"kind:{delivery.kind}",
    }
    if kills and (active := switches & kills):
        return "dropped", "killed", {"switch": min(active)}
    if forbidden := suppression.of_everything(profile, delivery.category, turn.now_ms):
        return "suppressed", forbidden.reason, {"scope": forbidden.scope}
    destination = _destination_of(turn, delivery)
    if destination is None:
        return "suppressed", "no_destination", {"channels": delivery.channel}
    forbidden = suppression.of_destination(profile, destination, delivery.channel, turn.now_ms)
    if forbidden:
        return "suppressed", forbidden.reason, {"scope": forbidden.scope}
    wanted, cell = preferences.wants(category, delivery.channel, profile.preferences)
    return None if wanted else ("suppressed", "opted_out", {"cell": cell})


def _destination_of(turn: Turn, delivery: Delivery) -> Destination | None:
    """The delivery's address as the recipient has it now."""
    for destination in turn.profile.destinations:
        if destination.destination_id == delivery.destination_id:
            return destination if destination.address == delivery.address else None
    return None


def _unregister(turn: Turn, feedback: Feedback, category: Category, settle: Settle) -> None:
    """The provider knows the address no more: forgets it, and tries the next channel.

    An address registered after the answer is another one, and stays.
    """
    delivery = feedback.delivery
    known = _destination_of(turn, delivery)
    if known is not None and known.registered_at_ms <= feedback.at_ms:
        kept = tuple(d for d in turn.profile.destinations if d is not known)
        turn.profile = replace(turn.profile, destinations=kept)
        turn.note(
            delivery.notification_id,
            "destination_removed",
            delivery.category,
            delivery.event_id,
            {"why": feedback.reason, "destination": known.destination_id},
        )
    usable, _ = routing.offers(turn.profile, category, turn.policy, turn.now_ms)
    channels = {offer.channel for offer in usable}
    if category.route == "all" or delivery.channel in channels or not channels:
        inputs = {"scope": f"destination:{delivery.destination_id}", "answer": feedback.reason}
        return _conclude(turn, delivery, "suppressed", "unregistered", inputs)
    return settle(turn, routing.notification_of(delivery), 0, delivery.channel, "fallback")


def _conclude(
    turn: Turn,
    delivery: Delivery,
    verdict: Verdict,
    reason: str,
    inputs: dict[str, str],
    until_ms: int | None = None,
) -> None:
    turn.conclude(
        routing.notification_of(delivery),
        verdict,
        reason,
        inputs,
        until_ms=until_ms,
        deliveries=(routing.sent_of(delivery),),
    )
