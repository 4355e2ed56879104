"""Evidence from outside: what was seen ends an escalation, what bounced or annoyed suppresses.

Receipts come more than once and in any order: each is idempotent, and what it starts is dated by
when it happened, not by when it was heard of.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from streams.core import ids, routing, suppression
from streams.core.control import opt_out
from streams.core.model import CHANNEL_OF_KIND, Delivery, Notification, Receipt, Suppression
from streams.core.rate_limit import CHANNELS
from streams.core.turn import Turn

STEPS_MAX = len(CHANNELS)


def on_receipt(turn: Turn, receipt: Receipt) -> None:
    """Ends escalations that it answers, and suppresses what it forbids from now on."""
    if turn.waiting.escalations or turn.waiting.held or turn.waiting.retries:
        _end_escalations(turn, receipt)
    cell = _cell_of(receipt)
    if cell is not None and opt_out(turn, cell, min(receipt.occurred_at_ms, turn.now_ms)):
        return
    new = _suppression(turn, receipt)
    if new is None:
        return
    bound = turn.policy.bounds.suppressions_max
    suppressions = suppression.add(turn.profile, new, turn.now_ms, bound)
    if suppressions is turn.profile.suppressions:
        return
    turn.profile = replace(turn.profile, suppressions=suppressions)
    turn.note(
        receipt.notification_id or receipt.delivery_id or turn.subject_id(new.scope),
        "suppression_added",
        event_id=receipt.event_id,
        inputs={"scope": suppressions[-1].scope, "why": receipt.kind},
        until_ms=new.until_ms,
    )


def _suppression(turn: Turn, receipt: Receipt) -> Suppression | None:
    """What a receipt forbids from now on, or ``None``."""
    at_ms = min(receipt.occurred_at_ms, turn.now_ms)
    if receipt.kind == "unsubscribed":
        return Suppression(_unsubscribed_scope(turn, receipt), "unsubscribed", at_ms)
    if receipt.kind not in ("bounced", "soft_bounced", "complained"):
        return None
    destination_id = receipt.destination_id or _destination_of(turn, receipt)
    if destination_id is None or len(destination_id) > turn.policy.bounds.id_bytes_max:
        return None  # Nothing names the address: nothing can be suppressed.
    scope = f"destination:{destination_id}"
    if receipt.kind != "soft_bounced":
        return Suppression(scope, receipt.kind, at_ms)
    until_ms = at_ms + turn.policy.soft_bounce_ms
    return Suppression(scope, "soft_bounced", at_ms, until_ms) if until_ms > turn.now_ms else None


def _cell_of(receipt: Receipt) -> str | None:
    """``category/channel`` of a receipt that unsubscribes from exactly that."""
    if receipt.kind != "unsubscribed":
        return None
    kind, _, cell = (receipt.name or "").partition(":")
    category, _, channel = cell.rpartition("/")
    return cell if kind == "cell" and category and channel in CHANNELS else None


def _unsubscribed_scope(turn: Turn, receipt: Receipt) -> str:
    """What the recipient unsubscribed from. What is not understood is everything: it is the law."""
    name = receipt.name or ""
    kind, _, what = name.partition(":")
    if kind == "cell":
        # It did not fit into the preferences: wider than asked for is lawful, narrower is not.
        name, what = f"category:{what.rpartition('/')[0]}", what.rpartition("/")[0]
        kind = "category"
    if kind == "channel" and what in CHANNELS:
        return name
    if kind == "category" and what and len(what) <= turn.policy.bounds.id_bytes_max:
        return name
    if not name and receipt.destination_id:
        return f"destination:{receipt.destination_id[: turn.policy.bounds.id_bytes_max]}"
    return "all"


def _destination_of(turn: Turn, receipt: Receipt) -> str | None:
    """Destination of a delivery that only its ids name, if the recipient still has it."""
    if receipt.notification_id is None or receipt.delivery_id is None:
        return None
    for destination in turn.profile.destinations:
        channel = CHANNEL_OF_KIND[destination.kind]
        for step in range(STEPS_MAX):
            told, where = receipt.notification_id, destination.destination_id
            if ids.delivery_id(turn.partition, told, channel, where, step) == receipt.delivery_id:
                return where
    return None


def _end_escalations(turn: Turn, receipt: Receipt) -> None:
    """Takes back planned and held steps that the receipt answers, and retries made needless."""
    named = (receipt.name if receipt.kind == "business" else receipt.kind) or ""

    def ends(told: Notification | Delivery, delivery_ids: tuple[str, ...]) -> bool:
        category = turn.policy.categories.get(told.category)
        if category is None or category.route != "escalate":
            return False
        return named in category.escalate_until and _is_about(receipt, told, delivery_ids)

    waiting = turn.waiting
    steps = [e for e in waiting.escalations if ends(e.notification, e.delivery_ids)]
    held = [h for h in waiting.held if h.step and ends(h.notification, h.delivery_ids)]
    retries = [r for r in waiting.retries if ends(r.delivery, ())]
    if not steps and not held and not retries:
        return
    turn.wait(
        escalations=tuple(e for e in waiting.escalations if not _among(e, steps)),
        held=tuple(h for h in waiting.held if not _among(h, held)),
        retries=tuple(r for r in waiting.retries if not _among(r, retries)),
    )
    inputs = {"by": named}
    for plan in steps:
        turn.note_about(plan.notification, "escalation_ended", inputs)
    for step in held:
        turn.note_about(step.notification, "step_ended", inputs)
    for retry in retries:
        delivery = retry.delivery
        turn.note(
            delivery.notification_id,
            "retry_ended",
            delivery.category,
            delivery.event_id,
            inputs,
            deliveries=(routing.sent_of(delivery),),
        )


def _among(thing: object, things: Sequence[object]) -> bool:
    return any(thing is one for one in things)


def _is_about(
    receipt: Receipt, told: Notification | Delivery, delivery_ids: tuple[str, ...]
) -> bool:
    """Does a receipt speak of this notification, by the most telling of its ids?"""
    if receipt.notification_id is not None:
        return receipt.notification_id == told.notification_id
    if receipt.event_id is not None:
        return receipt.event_id == told.event_id
    if receipt.delivery_id is not None:
        return receipt.delivery_id in delivery_ids
    return receipt.kind == "business"  # A business event is about the recipient.
