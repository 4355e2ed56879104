"""What recipients, apps and providers say: preferences, destinations, receipts.

They change the state and may make what waits due; each is idempotent. Cancellations are in
``cancel.py``.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import digest, ids, suppression
from streams.core.model import (
    Claim,
    DestinationInput,
    OpenDigest,
    PreferenceInput,
    Preferences,
    Receipt,
    Suppression,
)
from streams.core.turn import Turn

SUPPRESSING = {
    "bounced": "bounced",
    "soft_bounced": "soft_bounced",
    "complained": "complained",
    "unsubscribed": "unsubscribed",
}


def address_hash(kind: str, address: str) -> str:
    """Key of an address claim: the address itself never leaves its recipient's partition."""
    return ids.digest16("address", kind, address).hex()


def on_preferences(turn: Turn, change: PreferenceInput) -> None:
    """Takes the new preferences; what waited for the old ones is due at once, and re-checked."""
    new = change.preferences or Preferences()
    if new == turn.profile.preferences:
        return
    zone_changed = new.zone != turn.profile.preferences.zone
    turn.profile = replace(turn.profile, preferences=new)
    waiting = turn.waiting
    held = tuple(
        replace(item, due_ms=turn.now_ms) if item.reason in ("quiet_hours", "snoozed") else item
        for item in waiting.held
    )
    digests = waiting.digests
    if digests:
        digests = tuple(_reschedule(turn, opened, new, zone_changed) for opened in digests)
    if held != waiting.held or digests != waiting.digests:
        turn.wait(held=held, digests=digests)


def _reschedule(turn: Turn, opened: OpenDigest, new: Preferences, zone_changed: bool) -> OpenDigest:
    """An open digest under the new preferences: at once, at the new local time, or as it was."""
    category = turn.policy.categories.get(opened.category)
    rule = digest.rule_for(category, new) if category else None
    if rule is None:
        return replace(opened, closes_at_ms=turn.now_ms)
    if rule.mode == "calendar" and zone_changed:
        spread = (turn.recipient_id, turn.policy.release_jitter_ms)
        closes = digest.close_time(rule, turn.now_ms, turn.now_ms, new.zone, spread)
        return replace(opened, closes_at_ms=closes)
    return opened


def on_destination(turn: Turn, change: DestinationInput) -> None:
    """Adds, replaces or removes an address; an older registration never undoes a newer one."""
    new = change.destination
    known = next(
        (d for d in turn.profile.destinations if d.destination_id == new.destination_id), None
    )
    others = tuple(d for d in turn.profile.destinations if d.destination_id != new.destination_id)
    if change.removed:
        same = known is not None and (not new.address or known.address == new.address)
        if known is not None and same and known.registered_at_ms <= change.at_ms:
            turn.profile = replace(turn.profile, destinations=others)
            turn.note(new.destination_id, "destination_removed", inputs={"why": change.reason})
        return
    if known is not None and known.registered_at_ms >= new.registered_at_ms:
        return
    if known is None or known.address != new.address:
        turn.claims.append(
            Claim(
                address_hash(new.kind, new.address),
                turn.recipient_id,
                new.destination_id,
                new.kind,
                new.registered_at_ms,
            )
        )
    bound = turn.policy.bounds.destinations_max
    kept = sorted((*others, new), key=lambda d: (d.registered_at_ms, d.destination_id))[-bound:]
    lifted = suppression.lift(turn.profile, f"destination:{new.destination_id}")
    turn.profile = replace(turn.profile, destinations=tuple(kept), suppressions=lifted)


def on_receipt(turn: Turn, receipt: Receipt) -> None:
    """Ends escalations that it answers, and suppresses what it forbids from now on."""
    _end_escalations(turn, receipt)
    reason = SUPPRESSING.get(receipt.kind)
    if reason is None:
        return
    scope = receipt.name if receipt.kind == "unsubscribed" and receipt.name else None
    if scope is None and receipt.destination_id:
        scope = f"destination:{receipt.destination_id}"
    if scope is None:
        if receipt.kind != "unsubscribed":
            return  # Nothing names the address: nothing can be suppressed.
        scope = "all"
    until_ms = None
    if receipt.kind == "soft_bounced":
        until_ms = turn.now_ms + turn.policy.soft_bounce_ms
    new = Suppression(scope, reason, receipt.occurred_at_ms, until_ms)  # type: ignore[arg-type]
    bound = turn.policy.bounds.suppressions_max
    suppressions = suppression.add(turn.profile, new, turn.now_ms, bound)
    if suppressions != turn.profile.suppressions:
        turn.profile = replace(turn.profile, suppressions=suppressions)
        subject = receipt.notification_id or receipt.delivery_id or scope
        turn.note(
            subject,
            "suppression_added",
            event_id=receipt.event_id,
            inputs={"scope": scope, "why": receipt.kind},
            until_ms=until_ms,
        )


def _end_escalations(turn: Turn, receipt: Receipt) -> None:
    named = receipt.name if receipt.kind == "business" else receipt.kind
    kept = []
    for escalation in turn.waiting.escalations:
        notification = escalation.notification
        category = turn.policy.categories.get(notification.category)
        ends = category is not None and named in category.escalate_until
        if not ends or not _is_about(
            turn, receipt, notification.notification_id, notification.event_id
        ):
            kept.append(escalation)
            continue
        turn.note(
            notification.notification_id,
            "escalation_ended",
            notification.category,
            notification.event_id,
            {"by": named or ""},
        )
    if len(kept) != len(turn.waiting.escalations):
        turn.wait(escalations=tuple(kept))


def _is_about(turn: Turn, receipt: Receipt, notification_id: str, event_id: str | None) -> bool:
    """Does a receipt speak of this notification, by any of the ids it may carry?"""
    if receipt.notification_id is not None:
        return receipt.notification_id == notification_id
    if receipt.event_id is not None:
        return receipt.event_id == event_id
    if receipt.delivery_id is None:
        return receipt.kind == "business"  # A business event is about the recipient.
    from_step = range(8)
    return any(
        receipt.delivery_id
        == ids.delivery_id(
            turn.partition, notification_id, channel, destination.destination_id, step
        )
        for step in from_step
        for destination in turn.profile.destinations
        for channel in ("push", "email", "sms", "webhook", "chat")
    )
