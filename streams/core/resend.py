"""One more attempt at a delivery: the rules that it passes again, and what else may become of it.

Expiry, cancellation, kill switches, suppression, preferences, snooze and quiet hours are asked once
more. Limits are not charged twice: it is the same send.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import (
    cancel,
    digest,
    preferences,
    quiet_hours,
    routing,
    sizes,
    suppression,
)
from streams.core.model import DeadLetter, Delivery, Destination, Retry, Verdict
from streams.core.policy import Category
from streams.core.turn import Turn

Blocked = tuple[Verdict, str, dict[str, str]]
"""(verdict, reason, inputs) of the rule that no longer allows a delivery."""


def send_again(turn: Turn, delivery: Delivery, reason: str, inputs: dict[str, str]) -> None:
    """Rules 3 to 6 on one delivery; then it leaves once more, with fresh times."""
    now_ms, choices = turn.now_ms, turn.profile.preferences
    if delivery.expires_at_ms <= now_ms:
        return conclude_delivery(turn, delivery, "expired", "expired", inputs)
    category = turn.policy.categories.get(delivery.category)
    if category is None:
        inputs = {**inputs, "category": delivery.category}
        return give_up(turn, delivery, "unknown_category", inputs)
    destination = destination_of(turn, delivery)
    if blocked := _blocked(turn, delivery, category, destination):
        verdict, why, extra = blocked
        return conclude_delivery(turn, delivery, verdict, why, {**inputs, **extra})
    assert destination is not None, "a delivery without its destination is blocked"
    if delivery.priority != "critical":
        until_ms, why = _quiet(turn, delivery, category)
        if why == "quiet_hours" and category.quiet_action == "drop":
            return conclude_delivery(
                turn, delivery, "dropped", why, {**inputs, "zone": choices.zone}
            )
        if why and until_ms >= delivery.expires_at_ms:
            return conclude_delivery(turn, delivery, "expired", "expired", inputs)
        if why:
            not_yet_made = replace(delivery, attempt=delivery.attempt - 1)
            inputs = {**inputs, "zone": choices.zone}
            return wait(turn, not_yet_made, until_ms, why, inputs.get("answer", reason), inputs)
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


def wait(
    turn: Turn, delivery: Delivery, due_ms: int, code: str, answer: str, inputs: dict[str, str]
) -> None:
    """Lets a delivery wait for its next attempt, if there is room."""
    bounds, waiting = turn.policy.bounds, turn.waiting.retries
    size = sizes.delivery_bytes(delivery)
    if len(waiting) >= bounds.retries_max or not turn.has_room(size):
        limit = f"{bounds.retries_max} or {bounds.waiting_bytes_max} bytes"
        return give_up(turn, delivery, "retries_overflow", {**inputs, "limit": limit})
    waits_for = "" if code == "retry_scheduled" else code
    turn.wait(retries=(*waiting, Retry(delivery, due_ms, answer, size, waits_for)))
    return conclude_delivery(turn, delivery, "retrying", code, inputs, due_ms)


def give_up(turn: Turn, delivery: Delivery, reason: str, inputs: dict[str, str]) -> None:
    """A dead letter with the delivery inside: an operator can send it again."""
    detail = inputs.get("answer", reason)
    turn.dead_letters.append(DeadLetter(reason, detail, turn.source, delivery))
    conclude_delivery(turn, delivery, "dead_lettered", reason, inputs)


def conclude_delivery(
    turn: Turn,
    delivery: Delivery,
    verdict: Verdict,
    reason: str,
    inputs: dict[str, str],
    until_ms: int | None = None,
) -> None:
    """Records a verdict on one delivery."""
    turn.conclude(
        routing.notification_of(delivery),
        verdict,
        reason,
        inputs,
        until_ms=until_ms,
        deliveries=(routing.sent_of(delivery),),
    )


def destination_of(turn: Turn, delivery: Delivery) -> Destination | None:
    """The delivery's destination as the recipient has it now, whatever its address."""
    for destination in turn.profile.destinations:
        if destination.destination_id == delivery.destination_id:
            return destination if destination.kind == delivery.kind else None
    return None


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
    span_ms, lead_ms = turn.policy.release_jitter_ms, turn.policy.release_lead_ms
    until_ms = quiet_hours.release_at(
        choices, until_ms, delivery.expires_at_ms, turn.recipient_id, span_ms, lead_ms
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
