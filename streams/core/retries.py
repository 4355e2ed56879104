"""Provider answers that need deciding again, and the retries that come of them.

A retry passes the rules again before it leaves: expiry, cancellation, kill switches, suppression,
preferences, snooze and quiet hours. Limits are not charged twice: it is the same send. Each answer
is dealt with once: an attempt not newer than the newest known is ignored.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import (
    cancel,
    digest,
    preferences,
    quiet_hours,
    retry,
    routing,
    sizes,
    suppression,
)
from streams.core.model import DeadLetter, Delivery, Destination, Feedback, Retry, Verdict
from streams.core.policy import Category
from streams.core.terms import Course
from streams.core.turn import Settle, Turn

Blocked = tuple[Verdict, str, dict[str, str]]
"""(verdict, reason, inputs) of the rule that no longer allows a delivery."""


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
        _conclude(turn, delivery, "dropped", "ambiguous_given_up", answer)
    elif status == "unregistered":
        _unregister(turn, feedback, settle)
    elif status == "stale" and stale_count > turn.policy.bounds.stale_max:
        inputs = {"times": str(stale_count), "answer": feedback.reason}
        _give_up(turn, delivery, "stale_exhausted", inputs)
    elif status == "stale":
        again = replace(delivery, epoch=delivery.epoch + 1)
        _send_again(turn, again, "decided_again", answer)
    elif status == "redrive":
        _send_again(turn, replace(delivery, attempt=1), "redriven", {})
    elif status == "killed":
        _conclude(turn, delivery, "dropped", "killed", {"switch": feedback.reason})
    elif status == "rejected":
        replaced = feedback.reason == "collapsed"
        _conclude(turn, delivery, "dropped", "replaced" if replaced else "rejected", answer)


def release_retry(turn: Turn, waiting: Retry) -> None:
    """Makes the next attempt of a delivery, if every rule still allows it."""
    again = replace(waiting.delivery, attempt=waiting.delivery.attempt + 1)
    inputs = {"attempt": str(again.attempt), "answer": waiting.reason}
    _send_again(turn, again, "retried", inputs)


def _schedule(turn: Turn, feedback: Feedback, answer: dict[str, str]) -> None:
    delivery = feedback.delivery
    category = turn.policy.categories.get(delivery.category) or Category(delivery.category)
    rule = category.retry
    if why := cancel.meanwhile(turn, delivery):
        return _conclude(turn, delivery, "cancelled", why, answer)
    if delivery.attempt >= rule.attempts_max:
        inputs = {"attempts": str(delivery.attempt), "answer": feedback.reason}
        return _give_up(turn, delivery, "attempts_exhausted", inputs)
    due_ms = retry.due_ms(rule, feedback, turn.now_ms)
    if due_ms >= delivery.expires_at_ms:
        return _conclude(turn, delivery, "expired", "expired", answer)
    return _wait(turn, delivery, due_ms, "retry_scheduled", feedback.reason, answer)


def _wait(
    turn: Turn, delivery: Delivery, due_ms: int, code: str, answer: str, inputs: dict[str, str]
) -> None:
    """Lets a delivery wait for its next attempt, if there is room."""
    bounds, waiting = turn.policy.bounds, turn.waiting.retries
    size = sizes.delivery_bytes(delivery)
    if len(waiting) >= bounds.retries_max or not turn.has_room(size):
        limit = f"{bounds.retries_max} or {bounds.waiting_bytes_max} bytes"
        return _give_up(turn, delivery, "retries_overflow", {**inputs, "limit": limit})
    waits_for = "" if code == "retry_scheduled" else code
    turn.wait(retries=(*waiting, Retry(delivery, due_ms, answer, size, waits_for)))
    return _conclude(turn, delivery, "retrying", code, inputs, due_ms)


def _send_again(turn: Turn, delivery: Delivery, reason: str, inputs: dict[str, str]) -> None:
    """Rules 3 to 6 on one delivery; then it leaves once more, with fresh times."""
    now_ms, choices = turn.now_ms, turn.profile.preferences
    if delivery.expires_at_ms <= now_ms:
        return _conclude(turn, delivery, "expired", "expired", inputs)
    category = turn.policy.categories.get(delivery.category)
    if category is None:
        inputs = {**inputs, "category": delivery.category}
        return _give_up(turn, delivery, "unknown_category", inputs)
    destination = _destination_of(turn, delivery)
    if blocked := _blocked(turn, delivery, category, destination):
        verdict, why, extra = blocked
        return _conclude(turn, delivery, verdict, why, {**inputs, **extra})
    assert destination is not None, "a delivery without its destination is blocked"
    if delivery.priority != "critical":
        until_ms, why = _quiet(turn, delivery, category)
        if why == "quiet_hours" and category.quiet_action == "drop":
            return _conclude(turn, delivery, "dropped", why, {**inputs, "zone": choices.zone})
        if why and until_ms >= delivery.expires_at_ms:
            return _conclude(turn, delivery, "expired", "expired", inputs)
        if why:
            not_yet_made = replace(delivery, attempt=delivery.attempt - 1)
            inputs = {**inputs, "zone": choices.zone}
            return _wait(turn, not_yet_made, until_ms, why, inputs.get("answer", reason), inputs)
    notification = routing.notification_of(delivery)
    fresh = replace(
        routing.readdressed(delivery, destination),
        decided_at_ms=now_ms,
        valid_until_ms=routing.valid_until(turn, category, notification, delivery.channel),
        locale=choices.locale,
        policy_version=turn.policy.version,
    )
    turn.deliveries.append(fresh)
    return turn.conclude(
        notification, "delivering", reason, inputs, deliveries=(routing.sent_of(fresh),)
    )


def _quiet(turn: Turn, delivery: Delivery, category: Category) -> tuple[int, str]:
    """(until when, reason code) when it is not the time to send this; else (0, "")."""
    now_ms, choices = turn.now_ms, turn.profile.preferences
    if choices.snooze_until_ms > now_ms:
        return choices.snooze_until_ms, "snoozed"
    if category.quiet_action == "downgrade" and delivery.channel in category.downgrade_to:
        return 0, ""
    until_ms = quiet_hours.quiet_until(choices, now_ms)
    if until_ms is None:
        return 0, ""
    span_ms = turn.policy.release_jitter_ms
    until_ms = quiet_hours.release_at(
        choices, until_ms, delivery.expires_at_ms, turn.recipient_id, span_ms
    )
    return until_ms, "quiet_hours"


def _blocked(
    turn: Turn, delivery: Delivery, category: Category, destination: Destination | None
) -> Blocked | None:
    """The rule that no longer allows this delivery."""
    profile, kills = turn.profile, turn.policy.kills
    if why := cancel.meanwhile(turn, delivery):
        return "cancelled", why, {}
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
    if destination is None:
        return "suppressed", "no_destination", {"channels": delivery.channel}
    forbidden = suppression.of_destination(profile, destination, delivery.channel, turn.now_ms)
    if forbidden:
        return "suppressed", forbidden.reason, {"scope": forbidden.scope}
    wanted, cell = preferences.wants(category, delivery.channel, profile.preferences)
    if not wanted:
        return "suppressed", "opted_out", {"cell": cell}
    return _muted(turn, delivery, category)


def _muted(turn: Turn, delivery: Delivery, category: Category) -> Blocked | None:
    """What the recipient muted meanwhile."""
    choices = turn.profile.preferences
    if not choices.muted or delivery.priority == "critical" or category.mandatory:
        return None
    rule = digest.rule_for(category, choices)
    muted = preferences.muted_by(routing.notification_of(delivery), choices, rule)
    return None if muted is None else ("suppressed", "muted", {"muted": muted})


def _destination_of(turn: Turn, delivery: Delivery) -> Destination | None:
    """The delivery's destination as the recipient has it now, whatever its address."""
    for destination in turn.profile.destinations:
        if destination.destination_id == delivery.destination_id:
            return destination if destination.kind == delivery.kind else None
    return None


def _unregister(turn: Turn, feedback: Feedback, settle: Settle) -> None:
    """The provider knows the address no more: forgets it, and tries another channel.

    An address registered after the answer is another one, and stays.
    """
    delivery = feedback.delivery
    known = _destination_of(turn, delivery)
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
    _conclude(turn, delivery, "suppressed", "unregistered", inputs)
    if category is not None and category.route == "escalate":
        _escalate_now(turn, delivery, settle)
    return None


def _escalate_now(turn: Turn, delivery: Delivery, settle: Settle) -> None:
    """Takes the next step at once, if one is planned: nobody can see this one any more."""
    waiting = turn.waiting.escalations
    for planned in waiting:
        if planned.notification.notification_id == delivery.notification_id:
            turn.wait(escalations=tuple(other for other in waiting if other is not planned))
            course = Course(planned.next_step, planned.delivery_ids, None, True, "fallback")
            return settle(turn, planned.notification, course)
    return None


def _may_fall_back(turn: Turn, delivery: Delivery) -> bool:
    """Whether another channel takes over: once, and only when the channel has no address left."""
    now_ms, policy = turn.now_ms, turn.policy
    if routing.open_destinations(turn.profile, delivery.channel, policy, now_ms):
        return False  # A sibling on the same channel has it already.
    mark = f"{delivery.notification_id}/{delivery.channel}"
    if retry.newest_of(turn.waiting.attempted, mark) is not None:
        return False
    left = replace(delivery, delivery_id=mark)
    bound = policy.bounds.attempted_max
    turn.wait(attempted=retry.note(turn.waiting.attempted, left, now_ms, bound))
    return True


def _give_up(turn: Turn, delivery: Delivery, reason: str, inputs: dict[str, str]) -> None:
    """A dead letter with the delivery inside: an operator can send it again."""
    detail = inputs.get("answer", reason)
    turn.dead_letters.append(DeadLetter(reason, detail, turn.source, delivery))
    _conclude(turn, delivery, "dead_lettered", reason, inputs)


def _without(retries: tuple[Retry, ...], delivery: Delivery) -> tuple[Retry, ...]:
    """Retries without those of this delivery: a newer answer takes their place."""
    if not any(waiting.delivery.delivery_id == delivery.delivery_id for waiting in retries):
        return retries
    return tuple(w for w in retries if w.delivery.delivery_id != delivery.delivery_id)


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
