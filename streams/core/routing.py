"""Routing: what is sent on the channels that may be used, and which channel comes next."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import ids, preferences, retry, sizes
from streams.core.model import (
    Channel,
    Delivery,
    Destination,
    Escalation,
    Notification,
    Sent,
    packed,
)
from streams.core.policy import Category
from streams.core.quiet_hours import next_quiet_ms
from streams.core.terms import Course, Offer
from streams.core.turn import Turn


def send(
    turn: Turn,
    notification: Notification,
    category: Category,
    chosen: list[Offer],
    course: Course,
) -> None:
    """Emits one delivery per destination, plans the next step, and says so."""
    sent: list[Sent] = []
    escalates = category.route == "escalate"
    for offer in chosen:
        step = offer.step if escalates else 0
        valid_until_ms = valid_until(turn, category, notification, offer.channel)
        for destination in offer.destinations:
            delivery = make_delivery(
                turn, notification, category, offer.channel, destination, step, valid_until_ms
            )
            turn.deliveries.append(delivery)
            sent.append(sent_of(delivery))
            if delivery.epoch:
                _begin_epoch(turn, delivery)
    inputs = {"cell": chosen[0].cell}
    if escalates:
        known = (*course.delivery_ids, *(one.delivery_id for one in sent))
        inputs |= schedule_escalation(turn, notification, category, chosen[0].step, known)
    turn.conclude(notification, "delivering", course.reason, inputs, deliveries=tuple(sent))


def _begin_epoch(turn: Turn, delivery: Delivery) -> None:
    """Notes that this epoch has begun, so that a redrive of the one before comes too late."""
    bound = turn.policy.bounds.attempted_max
    begun = replace(delivery, attempt=0)
    turn.wait(attempted=retry.note(turn.waiting.attempted, begun, turn.now_ms, bound))


def valid_until(turn: Turn, category: Category, notification: Notification, channel: str) -> int:
    """Until when a sink may send without asking again."""
    until_ms = min(notification.expires_at_ms, turn.now_ms + turn.policy.delivery_valid_ms)
    choices = turn.profile.preferences
    if not choices.quiet_hours or notification.priority == "critical":
        return until_ms
    if category.quiet_action == "downgrade" and channel in category.downgrade_to:
        return until_ms  # Quiet enough for quiet hours.
    quiet_ms = next_quiet_ms(choices, turn.now_ms)
    return until_ms if quiet_ms is None else min(until_ms, quiet_ms)


def make_delivery(
    turn: Turn,
    notification: Notification,
    category: Category,
    channel: Channel,
    destination: Destination,
    step: int,
    valid_until_ms: int,
) -> Delivery:
    """The message for one address."""
    told, where = notification.notification_id, destination.destination_id
    delivery_id = ids.delivery_id(turn.partition, told, channel, where, step)
    return Delivery(
        delivery_id,
        told,
        turn.recipient_id,
        notification.category,
        notification.priority,
        channel,
        destination.kind,
        where,
        destination.address,
        destination.attributes,
        destination.registered_at_ms,
        category.template or category.name,
        turn.profile.preferences.locale,
        notification.data,
        notification.event_id,
        notification.digest_key,
        notification.count,
        notification.actors,
        notification.items,
        notification.collapse_key,
        step,
        1,
        retry.first_epoch(turn.waiting.attempted, delivery_id),
        notification.created_at_ms,
        notification.appended_at_ms,
        turn.now_ms,
        valid_until_ms,
        notification.expires_at_ms,
        category.on_ambiguous,
        notification.campaign,
        turn.policy.version,
        notification.actor_id,
    )


def sent_of(delivery: Delivery) -> Sent:
    """What an entry says of a delivery."""
    return Sent(
        delivery.delivery_id,
        delivery.channel,
        delivery.kind,
        delivery.destination_id,
        delivery.attempt,
    )


def notification_of(delivery: Delivery) -> Notification:
    """The notification that a delivery was made of, for deciding it again."""
    return Notification(
        delivery.notification_id,
        delivery.category,
        delivery.priority,
        delivery.created_at_ms,
        delivery.appended_at_ms,
        delivery.expires_at_ms,
        delivery.data,
        delivery.event_id,
        delivery.digest_key,
        delivery.count,
        delivery.actors,
        delivery.items,
        delivery.collapse_key,
        delivery.campaign,
        delivery.actor_id,
    )


def schedule_escalation(
    turn: Turn,
    notification: Notification,
    category: Category,
    used_step: int,
    delivery_ids: tuple[str, ...],
) -> dict[str, str]:
    """Plans the next channel, if there is one; returns what the entry should say about it."""
    order = preferences.channel_order(category, turn.profile.preferences)
    others = tuple(
        escalation
        for escalation in turn.waiting.escalations
        if not escalation.is_about(notification.notification_id)
    )
    if len(others) < len(turn.waiting.escalations):
        turn.wait(escalations=others)
    if used_step + 1 >= len(order):
        return {}
    size = sizes.notification_bytes(notification) + 32 * len(delivery_ids)
    if len(others) >= turn.policy.bounds.escalations_max or not turn.has_room(size):
        return {"escalation": "none: too many wait"}
    due_ms = turn.now_ms + category.escalate_after_ms
    planned = Escalation(packed(notification), used_step + 1, due_ms, delivery_ids, size)
    turn.wait_too(replace(turn.waiting, escalations=(*others, planned)), due_ms)
    return {"escalates_at_ms": str(due_ms), "escalates_to": order[used_step + 1]}


def readdressed(delivery: Delivery, destination: Destination) -> Delivery:
    """The delivery to its destination's address of today."""
    if destination.registered_at_ms == delivery.registered_at_ms:
        return delivery
    return replace(
        delivery,
        address=destination.address,
        attributes=destination.attributes,
        registered_at_ms=destination.registered_at_ms,
    )
