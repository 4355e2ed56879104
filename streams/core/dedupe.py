"""Dedupe: the same event id within the horizon is accepted once.

Seen ids are kept in hourly buckets of 12-byte entries: 8 bytes of the id's hash, 4 of the
content's. A bucket goes as a whole when its hour leaves the horizon, so nothing is ever rewritten
to forget. When an hour is full, later ids of that hour are accepted without being remembered, and
``dedupe_overflow`` says so once, when the last one that fits comes: bounded memory, never silent.
"""

from __future__ import annotations

from typing import Final, Literal
from zlib import crc32

import msgspec

from streams.core.model import Activity, Event
from streams.core.policy import HOUR_MS, Policy

ENTRY_BYTES: Final = 12
Seen = Literal["new", "duplicate", "conflict"]

_canonical: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def encoded(event: Event) -> bytes:
    """Everything in the event, whatever the order of its map fields."""
    return _canonical(event)


def content_hash(event: Event) -> bytes:
    """4 bytes over everything in the event."""
    return hash_of(encoded(event))


def hash_of(encoding: bytes) -> bytes:
    """``content_hash`` of an event that is encoded already."""
    return crc32(encoding).to_bytes(4, "big")


def find(bucket: bytes, id_hash: bytes) -> int:
    """Position of an id's entry in a bucket, or -1. A hit may be across entries: then the next."""
    before, found, _ = bucket.partition(id_hash)  # Nearly always in vain: the cheapest way to ask.
    if not found:
        return -1
    at = len(before)
    while at > 0 and at % ENTRY_BYTES:
        at = bucket.find(id_hash, at + 1)
    return at


def since_hour(now_ms: int, policy: Policy) -> int:
    """First hour that the horizon still reaches: whole hours count."""
    return (now_ms - policy.dedupe_horizon_ms) // HOUR_MS


def was_seen(activity: Activity, id_hash: bytes, oldest_hour: int) -> bytes | None:
    """Content hash that came with this id, or ``None`` if the id is new."""
    for hour, bucket in activity.seen:
        if hour >= oldest_hour and (at := find(bucket, id_hash)) >= 0:
            return bucket[at + 8 : at + ENTRY_BYTES]
    return None


def check(activity: Activity, id_hash: bytes, content: bytes, now_ms: int, policy: Policy) -> Seen:
    """Is this id new, a repeat, or a repeat with another content?"""
    known = was_seen(activity, id_hash, since_hour(now_ms, policy))
    if known is None:
        return "new"
    return "duplicate" if known == content else "conflict"


def remember(
    activity: Activity, id_hash: bytes, content: bytes, now_ms: int, policy: Policy
) -> tuple[Activity, bool]:
    """Activity with the id added (and old hours gone); the flag says that it was the last one
    for which this hour has room."""
    hour = now_ms // HOUR_MS
    oldest_hour = since_hour(now_ms, policy)
    seen = activity.seen
    bucket, earlier = b"", seen
    if seen and (newest := seen[-1])[0] >= hour:
        hour, bucket = newest
        earlier = seen[:-1]
    if earlier and earlier[0][0] < oldest_hour:
        earlier = tuple(pair for pair in earlier if pair[0] >= oldest_hour)
    room = policy.bounds.seen_per_hour_max * ENTRY_BYTES - len(bucket)
    if room < ENTRY_BYTES:
        return activity, False
    grown = (hour, bucket + id_hash + content)
    seen = (*earlier, grown) if earlier else (grown,)
    return Activity(activity.version, seen, activity.sent), room < 2 * ENTRY_BYTES
