"""Digests: many events become one message.

    window     opens at the first event, closes W later
    lookback   the first event goes at once, what follows within W is gathered until W is over
    debounce   closes when no event came for W, at the latest at its maximum age
    calendar   closes at the recipient's next local time of a list

Several digests of a recipient can be open, one per category and key; the key is made of event
fields. A digest keeps the exact count, the distinct actors and k of its events, and closes early
at its maximum of events or bytes. Closing makes a notification that passes every rule again.
"""

from __future__ import annotations

import msgspec

from streams.core import ids
from streams.core.local_time import next_minute_of_day, parse_minute
from streams.core.model import DigestItem, Notification, OpenDigest, Preferences
from streams.core.policy import HOUR_MS, Bounds, Category, DigestRule


def rule_for(category: Category, preferences: Preferences) -> DigestRule | None:
    """The recipient's choice for the category, else the catalogue's rule; ``None``: at once."""
    choice = preferences.digests.get(category.name)
    rule = category.digest
    if choice is None:
        return rule
    if choice == "immediate":
        return None
    base = rule or DigestRule(mode="window")
    if choice == "hourly":
        return msgspec.structs.replace(base, mode="window", window_ms=HOUR_MS)
    if choice.startswith("daily@"):
        return msgspec.structs.replace(base, mode="calendar", times=(choice[6:],))
    return rule


def key_of(rule: DigestRule, notification: Notification) -> str:
    """Digest key from the event's fields, in the rule's order; a missing field is empty."""
    if not rule.key:
        return ""
    values = []
    for field in rule.key:
        if field.startswith("data."):
            values.append(notification.data.get(field[5:], ""))
        elif field == "actor_id":
            values.append(notification.actor_id)
        else:
            values.append(notification.collapse_key or "")
    return "/".join(values)


def close_time(
    rule: DigestRule, opened_at_ms: int, now_ms: int, zone: str, spread: tuple[str, int]
) -> int:
    """When a digest opened at ``opened_at_ms`` closes if nothing more comes.

    ``spread`` is (recipient, span): calendar digests of many recipients must not all close in
    the same second.
    """
    if rule.mode == "debounce":
        return min(now_ms + rule.window_ms, opened_at_ms + rule.age_ms_max)
    if rule.mode == "calendar":
        minutes = tuple(parse_minute(text) for text in rule.times) or (540,)
        return next_minute_of_day(opened_at_ms, minutes, zone) + ids.jitter(*spread)
    return opened_at_ms + rule.window_ms


def open_digest(
    notification: Notification, key: str, recipient_id: str, partition: int, now_ms: int
) -> OpenDigest:
    """An empty digest for notifications like this one."""
    category = notification.category
    return OpenDigest(
        digest_id=ids.digest_id(
            partition, recipient_id, category, key, now_ms, notification.event_id or ""
        ),
        key=key,
        category=category,
        opened_at_ms=now_ms,
        closes_at_ms=now_ms,
        last_at_ms=now_ms,
        priority=notification.priority,
        appended_at_ms=notification.appended_at_ms,
        expires_at_ms=notification.expires_at_ms,
        count=0,
        members=b"",
        actors=b"",
        items=(),
        campaign=notification.campaign,
    )


def add(
    digest: OpenDigest,
    notification: Notification,
    rule: DigestRule,
    closes_at_ms: int,
    now_ms: int,
    bounds: Bounds,
) -> OpenDigest:
    """The digest with one more event, and its new closing time."""
    actors = digest.actors
    if notification.actor_id:
        actor = ids.hash8(notification.actor_id)
        if not contains(actors, actor) and len(actors) < bounds.actors_max * 8:
            actors += actor
    item = DigestItem(
        notification.event_id or "",
        notification.created_at_ms,
        notification.actor_id,
        notification.data,
    )
    items = _keep((*digest.items, item), rule)
    return msgspec.structs.replace(
        digest,
        closes_at_ms=closes_at_ms,
        last_at_ms=now_ms,
        expires_at_ms=max(digest.expires_at_ms, notification.expires_at_ms),
        count=digest.count + 1,
        members=digest.members + ids.hash8(item.event_id),
        actors=actors,
        items=items,
        size_bytes=sum(_size(kept) for kept in items),
    )


def is_full(digest: OpenDigest, rule: DigestRule) -> bool:
    """True when it must close early."""
    return digest.count >= rule.items_max or digest.size_bytes >= rule.bytes_max


def remove(digest: OpenDigest, event_id: str) -> OpenDigest | None:
    """The digest without a cancelled event; ``None`` when the event is not in it.

    The actor stays counted when the event is no longer among the kept items: nobody remembers
    who did it, and one too many is better than a person forgotten.
    """
    at = _find(digest.members, ids.hash8(event_id))
    if at < 0:
        return None
    items = tuple(item for item in digest.items if item.event_id != event_id)
    gone = next((item for item in digest.items if item.event_id == event_id), None)
    actors = digest.actors
    if gone and digest.count == len(digest.items):
        left = dict.fromkeys(item.actor_id for item in items if item.actor_id)
        actors = b"".join(ids.hash8(actor) for actor in left)
    return msgspec.structs.replace(
        digest,
        count=digest.count - 1,
        members=digest.members[:at] + digest.members[at + 8 :],
        actors=actors,
        items=items,
        size_bytes=sum(_size(kept) for kept in items),
    )


def to_notification(digest: OpenDigest, category: Category, now_ms: int) -> Notification:
    """The closed digest as one notification."""
    last = digest.items[-1] if digest.items else None
    return Notification(
        notification_id=digest.digest_id,
        category=digest.category,
        priority=digest.priority,
        created_at_ms=digest.opened_at_ms,
        appended_at_ms=digest.appended_at_ms,
        expires_at_ms=max(digest.expires_at_ms, now_ms + category.expires_after_ms),
        data=last.data if last else {},
        digest_key=digest.key,
        count=digest.count,
        actors=len(digest.actors) // 8,
        items=digest.items,
        campaign=digest.campaign,
        actor_id=last.actor_id if last else "",
    )


def lookback_key(category: str, key: str) -> str:
    """Key of ``Waiting.lookbacks``."""
    return f"{category}|{key}"


def contains(hashes: bytes, wanted: bytes) -> bool:
    """Is an 8-byte hash in a list of them?"""
    return _find(hashes, wanted) >= 0


def _find(hashes: bytes, wanted: bytes) -> int:
    at = hashes.find(wanted)
    while at > 0 and at % 8:
        at = hashes.find(wanted, at + 1)
    return at


def _keep(items: tuple[DigestItem, ...], rule: DigestRule) -> tuple[DigestItem, ...]:
    if rule.keep == "first":
        return items[: rule.items_kept_max]
    return items[-rule.items_kept_max :]


def _size(item: DigestItem) -> int:
    return (
        len(item.event_id)
        + len(item.actor_id)
        + sum(len(name) + len(value) for name, value in item.data.items())
    )
