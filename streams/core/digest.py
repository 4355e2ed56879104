"""Digests: many events become one message.

    window     opens at the first event, closes W later
    lookback   the first event goes at once, what follows within W is gathered until W is over
    debounce   closes when no event came for W, at the latest at its maximum age
    calendar   closes at the recipient's next local time of a list

Several digests of a recipient can be open, one per category, key and campaign; the key is made of
event fields. A digest keeps the exact count, the distinct actors and k of its events, and closes
early at its maximum of events or bytes. Closing makes a notification that passes every rule again.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from msgspec import Raw
from msgspec.structs import replace

from streams.core import ids, members, sizes
from streams.core.local_time import next_minute_of_day, parse_minute
from streams.core.model import (
    PRIORITY_RANK,
    DigestItem,
    Notification,
    OpenDigest,
    Preferences,
    packed,
    unpacked_item,
)
from streams.core.policy import DAY_MS, HOUR_MS, Bounds, Category, DigestRule

KEY_CHARS_MAX: Final = 256
"""A longer key is replaced by its hash: keys are stored, and their values come from outside."""
BY_DEFAULT = DigestRule(mode="window")
"""How events gather in a category without a digest rule, when quiet hours or a limit ask for it."""
NINE_O_CLOCK: Final = 540


def rule_for(category: Category, preferences: Preferences) -> DigestRule | None:
    """The recipient's choice for the category, else the catalogue's rule; ``None``: at once."""
    choice = preferences.digests.get(category.name) if preferences.digests else None
    if choice is None:
        return category.digest
    return chosen_rule(choice, category.digest)


@lru_cache(maxsize=4_096)
def chosen_rule(choice: str, catalogue: DigestRule | None) -> DigestRule | None:
    """The rule that ``immediate``, ``hourly`` or ``daily@HH:MM`` stands for; key and sizes stay."""
    base = catalogue or BY_DEFAULT
    if choice == "immediate":
        return None
    if choice == "hourly":
        return replace(base, mode="window", window_ms=HOUR_MS)
    if choice.startswith("daily@"):
        return replace(base, mode="calendar", times=(choice[6:],))
    return catalogue


def key_of(rule: DigestRule, notification: Notification) -> str:
    """Digest key from the event's fields, in the rule's order; a missing field is empty."""
    if notification.digest_key is not None:
        return notification.digest_key
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
    key = "/".join(values)
    return key if len(key) <= KEY_CHARS_MAX else ids.digest16(key).hex()


def close_time(
    rule: DigestRule, opened_at_ms: int, now_ms: int, zone: str, spread: tuple[str, int, int]
) -> int:
    """When a digest opened at ``opened_at_ms`` closes if nothing more comes.

    ``spread`` is (recipient, span, lead): calendar digests of many recipients must not all close
    in the same second, nor on the quarter hour (``ids.spread``).
    """
    if rule.mode == "debounce":
        return min(now_ms + rule.window_ms, opened_at_ms + rule.age_ms_max)
    if rule.mode == "calendar":
        recipient_id, span_ms, lead_ms = spread
        at_ms = next_minute_of_day(opened_at_ms, _minutes_of(rule.times), zone)
        return ids.spread(at_ms, DAY_MS, recipient_id, span_ms, lead_ms)
    return opened_at_ms + rule.window_ms


@lru_cache(maxsize=4_096)
def _minutes_of(times: tuple[str, ...]) -> tuple[int, ...]:
    """A calendar's times as minutes of the day."""
    return tuple(parse_minute(text) for text in times) or (NINE_O_CLOCK,)


def open_digest(
    notification: Notification,
    key: str,
    recipient_id: str,
    partition: int,
    now_ms: int,
    opened_by: str,
) -> OpenDigest:
    """An empty digest for notifications like this one."""
    category = notification.category
    first = notification.event_id or ""
    # In the order of the fields, here and below: by their names it takes twice as long.
    return OpenDigest(
        ids.digest_id(partition, recipient_id, category, key, now_ms, first),
        key,
        category,
        now_ms,
        now_ms,
        now_ms,
        notification.priority,
        notification.appended_at_ms,
        notification.expires_at_ms,
        0,
        b"",
        b"",
        (),
        0,
        notification.campaign,
        b"",
        {},
        opened_by,
    )


def add(
    digest: OpenDigest,
    notification: Notification,
    rule: DigestRule,
    closes_at_ms: int,
    now_ms: int,
    bounds: Bounds,
    member: bytes | None = None,
) -> OpenDigest:
    """The digest with one more event, and its new closing time.

    ``member``: hash of the event's id, when that is known.
    """
    event_id, actor_id = notification.event_id or "", notification.actor_id
    if member is None:
        member = ids.hash8(event_id)
    actors, actor = digest.actors, members.NOBODY
    if actor_id:
        actor = ids.hash8(actor_id)
        if members.place(actors, actor) < 0 and len(actors) < 8 * bounds.actors_max:
            actors += actor
    item = DigestItem(event_id, notification.created_at_ms, actor_id, notification.data)
    items, size_bytes = _with(digest, item, rule)
    known, facts, collapse = digest.members, digest.member_facts, digest.collapse
    expires_at_ms: int = notification.expires_at_ms
    if members.has_facts(known, facts):
        facts += members.fact(actor, expires_at_ms)
    collapse_key = notification.collapse_key
    if collapse_key is not None:
        collapse = {**collapse, collapse_key: event_id}
    priority, its_priority = digest.priority, notification.priority
    if its_priority != priority and PRIORITY_RANK[its_priority] < PRIORITY_RANK[priority]:
        priority = its_priority
    return OpenDigest(
        digest.digest_id,
        digest.key,
        digest.category,
        digest.opened_at_ms,
        closes_at_ms,
        now_ms,
        priority,
        min(digest.appended_at_ms, notification.appended_at_ms),
        max(digest.expires_at_ms, expires_at_ms),
        digest.count + 1,
        known + member,
        actors,
        items,
        size_bytes,
        digest.campaign,
        facts,
        collapse,
        digest.opened_by,
        digest.closing,
    )


def is_full(digest: OpenDigest, rule: DigestRule) -> bool:
    """True when it must close early."""
    return digest.count >= rule.items_max or digest.size_bytes >= rule.bytes_max


def to_notification(digest: OpenDigest) -> Notification:
    """The closed digest as one notification. It lives as long as the last of its events."""
    items = digest.shown
    last = items[-1] if items else None
    return Notification(
        notification_id=digest.digest_id,
        category=digest.category,
        priority=digest.priority,
        created_at_ms=digest.opened_at_ms,
        appended_at_ms=digest.appended_at_ms,
        expires_at_ms=digest.expires_at_ms,
        data=last.data if last else {},
        digest_key=digest.key,
        count=digest.count,
        actors=len(digest.actors) // members.HASH_BYTES,
        items=items,
        campaign=digest.campaign,
        members=digest.members,
        member_facts=digest.member_facts,
        collapse=digest.collapse,
    )


def lookback_key(category: str, key: str) -> str:
    """Key of ``Waiting.lookbacks``."""
    return f"{category}|{key}"


def _with(digest: OpenDigest, item: DigestItem, rule: DigestRule) -> tuple[tuple[Raw, ...], int]:
    """(items to show with one more, their weight): only what comes and goes is weighed."""
    items = (*digest.items, packed(item))
    size_bytes = digest.size_bytes + sizes.item_bytes(item)
    if len(items) > rule.items_kept_max:
        items, dropped = _keep(items, rule)
        for one in dropped:
            size_bytes -= sizes.item_bytes(unpacked_item(one))
    return items, size_bytes


def _keep(items: tuple[Raw, ...], rule: DigestRule) -> tuple[tuple[Raw, ...], tuple[Raw, ...]]:
    """(items to show, the others) of more than may be shown, in the order in which they came."""
    most = rule.items_kept_max
    if rule.keep == "first":
        return items[:most], items[most:]
    if rule.keep == "last":
        return items[-most:], items[:-most]
    name = rule.top_by.removeprefix("data.")
    ranked = sorted(
        items, key=lambda item: _number(unpacked_item(item).data.get(name, "")), reverse=True
    )
    top = ranked[:most]
    kept = tuple(item for item in items if any(item is one for one in top))
    return kept, tuple(ranked[most:])


def _number(text: str) -> float:
    """A data field's value as a number; what is none ranks last."""
    try:
        value = float(text)
    except ValueError:
        return -math.inf
    return -math.inf if math.isnan(value) else value
