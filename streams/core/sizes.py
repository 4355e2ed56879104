"""What state weighs, in bytes of text, so that a recipient's memory has a bound.

Weights are close to the encoded sizes and always cheap: names and values are summed, fixed fields
count as a constant. An item of the waiting part carries its own weight, so that the total is a
sum of numbers.
"""

from __future__ import annotations

from typing import Final

from streams.core.model import Delivery, DigestItem, Notification, OpenDigest, Waiting

NOTIFICATION_BYTES: Final = 160
"""Fixed fields of a notification that waits."""
DELIVERY_BYTES: Final = 320
DIGEST_BYTES: Final = 200
ITEM_BYTES: Final = 16


def text_bytes(text: str) -> int:
    """UTF-8 length."""
    return len(text) if text.isascii() else len(text.encode())


def map_bytes(values: dict[str, str]) -> int:
    """UTF-8 length of all names and values."""
    total = 0
    for name, value in values.items():
        total += len(name.encode()) + len(value.encode())
    return total


def item_bytes(item: DigestItem) -> int:
    """Weight of an event that a digest shows."""
    return ITEM_BYTES + text_bytes(item.event_id + item.actor_id) + map_bytes(item.data)


def notification_bytes(notification: Notification) -> int:
    """Weight of a notification that waits."""
    return (
        NOTIFICATION_BYTES
        + map_bytes(notification.data)
        + sum(item_bytes(item) for item in notification.items)
        + len(notification.members)
        + len(notification.member_facts)
        + text_bytes(notification.collapse_key or "")
        + text_bytes(notification.actor_id)
        + (map_bytes(notification.collapse) if notification.collapse else 0)
    )


def delivery_bytes(delivery: Delivery) -> int:
    """Weight of a delivery that waits for its next attempt."""
    return (
        DELIVERY_BYTES
        + text_bytes(delivery.address)
        + map_bytes(delivery.attributes)
        + map_bytes(delivery.data)
        + sum(item_bytes(item) for item in delivery.items)
    )


def digest_bytes(digest: OpenDigest) -> int:
    """Weight of an open digest."""
    lists = len(digest.members) + len(digest.member_facts) + len(digest.actors)
    collapse = map_bytes(digest.collapse) if digest.collapse else 0
    return DIGEST_BYTES + digest.size_bytes + lists + collapse


def waiting_bytes(waiting: Waiting) -> int:
    """Weight of everything that waits for one recipient."""
    return (
        sum(held.size_bytes for held in waiting.held)
        + sum(digest_bytes(digest) for digest in waiting.digests)
        + sum(retry.size_bytes for retry in waiting.retries)
        + sum(escalation.size_bytes for escalation in waiting.escalations)
    )
