"""An event on its way in: what there is to tell, until when, and from when on."""

from __future__ import annotations

from streams.core.local_time import local, resolve_send_at, zone_of
from streams.core.members import place
from streams.core.model import PRIORITY_RANK, Event, Notification, Packed
from streams.core.policy import Category
from streams.core.turn import Turn


def notification_of(
    event: Event,
    subject_id: str,
    category: Category,
    appended_at_ms: int,
    send_at_ms: int | None,
) -> Notification:
    """The event as something to tell, with its priority and expiry settled.

    An event's priority may only lower its category's. The time to live starts when Kafka took the
    event, or when it is to be sent.
    """
    priority, wished, actor_id = category.priority, event.priority, event.actor_id
    if wished is not None and PRIORITY_RANK[wished] > PRIORITY_RANK[priority]:
        priority = wished
    expires_at_ms = event.expires_at_ms
    if expires_at_ms is None:
        expires_at_ms = max(appended_at_ms, send_at_ms or 0) + category.expires_after_ms
    return Notification(
        subject_id,
        event.category,
        priority,
        event.created_at_ms,
        appended_at_ms,
        expires_at_ms,
        event.data,
        event.event_id,
        None,
        1,
        1 if actor_id else 0,
        (),
        event.collapse_key,
        event.campaign,
        actor_id,
    )


def as_received(event: Event, subject_id: str, appended_at_ms: int) -> Notification:
    """As much of an event that is told to nobody as its verdict needs."""
    return Notification(
        subject_id, event.category, "normal", 0, appended_at_ms, 0, {}, event.event_id
    )


def still_waits(turn: Turn, subject_id: str, event_id: str) -> bool:
    """Whether this event waits here: then it was accepted, however long ago."""
    waiting = turn.waiting
    if not (waiting.held or waiting.digests or waiting.retries or waiting.escalations):
        return False
    for opened in waiting.digests:
        if place(opened.members, turn.hash_of(event_id)) >= 0:
            return True
    if waiting.held or waiting.escalations:
        member = turn.hash_of(event_id)
        for held in waiting.held:
            if _tells(held, subject_id, member):
                return True
        for step in waiting.escalations:
            if _tells(step, subject_id, member):
                return True
    return any(retry.delivery.notification_id == subject_id for retry in waiting.retries)


def _tells(waits: Packed, subject_id: str, member: bytes) -> bool:
    """Is this the event's notification, or a closed digest that has it?"""
    if waits.is_about(subject_id):
        return True
    return waits.may_mention(member) and place(waits.notification.members, member) >= 0


def send_at(turn: Turn, event: Event) -> int | None:
    """When the event asks to be sent, in the recipient's zone; ``None``: now."""
    send_at_local = event.send_at_local
    if send_at_local is None:
        return event.send_at_ms
    try:
        return resolve_send_at(send_at_local, turn.now_ms, turn.profile.preferences.zone)
    except (ValueError, OverflowError):
        return None  # It was valid in UTC: only a time before year 1 has no instant elsewhere.


def schedule(
    turn: Turn, notification: Notification, event: Event, category: Category, send_at_ms: int
) -> None:
    """Holds an event until its time; a local time keeps its date, so a new zone can move it."""
    text, lifetime_ms = "", 0
    if event.send_at_local is not None:
        zone = zone_of(turn.profile.preferences.zone)
        day, _, clock = event.send_at_local.rpartition("T")
        text = f"{day or local(send_at_ms, zone).date().isoformat()}T{clock}"
        lifetime_ms = 0 if event.expires_at_ms is not None else category.expires_after_ms
    inputs = {"send_at_ms": str(send_at_ms), "send_at_local": text}
    turn.hold(
        notification,
        send_at_ms,
        "scheduled",
        inputs,
        send_at_local=text,
        lifetime_ms=lifetime_ms,
    )
