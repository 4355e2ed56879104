"""Identifiers: derived from keys, so a retry or a replay makes the same ones.

Every id is 32 hex digits of which the first three are the recipient's partition, so that whoever
holds an id knows which worker can explain it. The rest are the first 116 bits of a BLAKE2b hash:
at a billion ids a day, a clash within one partition is not expected in the age of the universe.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_new_hash16: Final = blake2b(digest_size=16).copy
_new_hash8: Final = blake2b(digest_size=8).copy
"""To copy a hash of nothing is cheaper than to make one."""


def digest16(*fields: str) -> bytes:
    """16-byte hash of fields; a zero byte between them keeps ("ab", "c") from ("a", "bc")."""
    hashed = _new_hash16()
    hashed.update("\0".join(fields).encode())
    return hashed.digest()


def hash8(text: str) -> bytes:
    """8-byte hash, for membership lists that must stay small."""
    hashed = _new_hash8()
    hashed.update(text.encode())
    return hashed.digest()


def event_digest(event_id: str, recipient_id: str) -> bytes:
    """Hash that both names an event's notification and remembers that it was seen."""
    return digest16(event_id, recipient_id)


_PREFIXES: Final = tuple(f"{partition:03x}" for partition in range(4_096))


def to_id(partition: int, digest: bytes) -> str:
    """Hash and partition (0 to 4,095) -> public id."""
    return _PREFIXES[partition] + digest.hex()[:29]


def partition_of(public_id: str) -> int:
    """Partition that an id carries. Raises ``ValueError`` when it is not one of our ids."""
    if len(public_id) != 32:
        raise ValueError(f"an id has 32 hex digits, this has {len(public_id)}")
    int(public_id, 16)
    return int(public_id[:3], 16)


def digest_id(
    partition: int, recipient_id: str, category: str, key: str, opened_at_ms: int, first: str
) -> str:
    """Id of a digest: who, what is gathered, since when, and its first event's id.

    The first event tells apart two digests of one millisecond: a full one and its successor.
    """
    opened = str(opened_at_ms)
    return to_id(partition, digest16("digest", recipient_id, category, key, opened, first))


def delivery_id(
    partition: int, notification_id: str, channel: str, destination_id: str, step: int
) -> str:
    """Id of a delivery: the same for every attempt at it."""
    return to_id(partition, digest16(notification_id, channel, destination_id, str(step)))


def jitter(key: str, below: int) -> int:
    """A number in [0, below) that only depends on ``key``; 0 when ``below`` is."""
    if below <= 0:
        return 0
    return int.from_bytes(hash8(key)) % below


QUARTER_HOUR_MS: Final = 15 * 60_000


def spread(at_ms: int, room_ms: int, key: str, span_ms: int, lead_ms: int) -> int:
    """When ``key`` is released of what could be at ``at_ms``: less than ``room_ms`` later.

    Not in the first ``lead_ms`` of a quarter hour, unless there is no room behind them: that is
    when everybody else sends. Every zone of today is whole quarter hours away from UTC.
    """
    late_ms = max(0, lead_ms - at_ms % QUARTER_HOUR_MS)
    if late_ms >= room_ms:
        late_ms = 0
    return at_ms + late_ms + jitter(key, min(span_ms, room_ms - late_ms))
