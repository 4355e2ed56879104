"""Routing: which channels and addresses can be used, and what is sent to them.

``offers`` answers rules 4 and 5 for each channel in the recipient's order and keeps the obstacle
of each channel that is closed, because "why not" is asked more often than "why".
"""

from __future__ import annotations

import msgspec

from streams.core import ids, preferences, suppression
from streams.core.model import (
    CHANNEL_OF_KIND,
    Delivery,
    Destination,
    Escalation,
    Notification,
    Profile,
    Sent,
)
from streams.core.policy import Category, Policy
from streams.core.quiet_hours import next_quiet_ms
from streams.core.turn import Turn


class Offer(msgspec.Struct, frozen=True):
    """A channel that may be used now."""

    channel: str
    step: int
    """Place in the recipient's order of channels."""
    destinations: tuple[Destination, ...]
    cell: str
    """The preference cell that allowed it."""


class Obstacle(msgspec.Struct, frozen=True):
    """Why a channel is closed."""

    reason: str
    detail: str


def offers(
    profile: Profile,
    category: Category,
    policy: Policy,
    now_ms: int,
    from_step: int = 0,
    without: str | None = None,
) -> tuple[list[Offer], dict[str, Obstacle]]:
    """(usable channels in order, obstacle of each closed one)."""
    usable: list[Offer] = []
    closed: dict[str, Obstacle] = {}
    order = preferences.channel_order(category, profile.preferences)
    for step, channel in enumerate(order):
        if step < from_step or channel == without:
            continue
        found = _open_destinations(profile, channel, policy, now_ms)
        if isinstance(found, Obstacle):
            closed[channel] = found
            continue
        wanted, cell = preferences.wants(category, channel, profile.preferences)
        if wanted:
            usable.append(Offer(channel, step, found, cell))
        else:
            closed[channel] = Obstacle("opted_out", cell)
    return usable, closed


def _open_destinations(
    profile: Profile, channel: str, policy: Policy, now_ms: int
) -> tuple[Destination, ...] | Obstacle:
    all_of_them = [d for d in profile.destinations if CHANNEL_OF_KIND[d.kind] == channel]
    if not all_of_them:
        return Obstacle("no_destination", channel)
    found = []
    obstacle = Obstacle("no_destination", channel)
    for destination in all_of_them:
        if policy.kills and f"kind:{destination.kind}" in policy.kills:
            obstacle = Obstacle("killed", f"kind:{destination.kind}")
        elif forbidden := suppression.of_destination(profile, destination, channel, now_ms):
            obstacle = Obstacle(forbidden.reason, forbidden.scope)
        else:
            found.append(destination)
    return tuple(found) if found else obstacle


def why_not(closed: dict[str, Obstacle]) -> tuple[str, dict[str, str]]:
    """(reason, inputs) of a notification that no channel can take.

    What the recipient or the law said outranks the lack of an address.
    """
    inputs = {channel: f"{o.reason} ({o.detail})" for channel, o in closed.items()}
    ranked = sorted(
        closed.values(), key=lambda o: (o.reason == "no_destination", o.reason == "opted_out")
    )
    if not ranked or ranked[0].reason == "no_destination":
        return "no_destination", {**inputs, "channels": ", ".join(closed)}
    first = ranked[0]
    name = {"opted_out": "cell", "killed": "switch"}.get(first.reason, "scope")
    return first.reason, {**inputs, name: first.detail}


def send(
    turn: Turn,
    notification: Notification,
    category: Category,
    chosen: list[Offer],
    inputs: dict[str, str],
    reason: str = "routed",
) -> None:
    """Emits one delivery per destination and says so."""
    sent: list[Sent] = []
    for offer in chosen:
        step = offer.step if category.route == "escalate" else 0
        valid_until_ms = valid_until(turn, category, notification, offer.channel)
        for destination in offer.destinations:
            delivery = make_delivery(
                turn, notification, category, offer.channel, destination, step, valid_until_ms
            )
            turn.deliveries.append(delivery)
            sent.append(sent_of(delivery))
    if chosen:
        inputs = {"cell": chosen[0].cell, **inputs}
    turn.conclude(notification, "delivering", reason, inputs, deliveries=tuple(sent))


def valid_until(turn: Turn, category: Category, notification: Notification, channel: str) -> int:
    """Until when a sink may send without asking again."""
    until_ms = min(notification.expires_at_ms, turn.now_ms + turn.policy.delivery_valid_ms)
    loud = not (category.quiet_action == "downgrade" and channel in category.downgrade_to)
    if notification.priority != "critical" and loud:
        quiet_ms = next_quiet_ms(turn.profile.preferences, turn.now_ms)
        if quiet_ms is not None and quiet_ms < until_ms:
            return quiet_ms
    return until_ms


def make_delivery(
    turn: Turn,
    notification: Notification,
    category: Category,
    channel: str,
    destination: Destination,
    step: int,
    valid_until_ms: int,
) -> Delivery:
    """The message for one address."""
    return Delivery(
        ids.delivery_id(
            turn.partition, notification.notification_id, channel, destination.destination_id, step
        ),
        notification.notification_id,
        turn.recipient_id,
        notification.category,
        notification.priority,
        channel,
        destination.kind,
        destination.destination_id,  # type: ignore[arg-type]
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
        0,
        notification.created_at_ms,
        notification.appended_at_ms,
        turn.now_ms,
        valid_until_ms,
        notification.expires_at_ms,
        category.on_ambiguous,
        notification.campaign,
        turn.policy.version,
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


def notification_of(delivery: Delivery, actor_id: str = "") -> Notification:
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
        actor_id,
    )


def schedule_escalation(
    turn: Turn, notification: Notification, category: Category, used_step: int
) -> dict[str, str]:
    """Plans the next channel, if there is one; returns what the entry should say about it."""
    order = preferences.channel_order(category, turn.profile.preferences)
    if used_step + 1 >= len(order):
        return {}
    waiting = turn.waiting.escalations
    if len(waiting) >= turn.policy.bounds.escalations_max:
        return {"escalation": "none: too many wait"}
    due_ms = turn.now_ms + category.escalate_after_ms
    turn.wait(escalations=(*waiting, Escalation(notification, used_step + 1, due_ms)))
    return {"escalates_at_ms": str(due_ms), "escalates_to": order[used_step + 1]}
