"""State parts to bytes and back.

A part is MessagePack of its array-like struct. ``Waiting`` is preceded by its due time, eight
bytes big endian, so that a restore can rebuild the due index without decoding anything. A part
that holds nothing is stored as no record at all. Older releases wrote fewer fields, newer ones
may write more; both are read.
"""

from __future__ import annotations

import msgspec

from streams.core.model import Activity, Profile, Waiting

NEVER = b"\xff" * 8
FOREVER_MS = (1 << 63) - 1

_encoder = msgspec.msgpack.Encoder()
_profile = msgspec.msgpack.Decoder(Profile)
_activity = msgspec.msgpack.Decoder(Activity)
_waiting = msgspec.msgpack.Decoder(Waiting)
EMPTY_PROFILE = Profile()
EMPTY_ACTIVITY = Activity()
EMPTY_WAITING = Waiting()


def next_due_ms(waiting: Waiting) -> int | None:
    """When the earliest of the waiting things is due; ``None`` when nothing waits for a time."""
    if not (waiting.held or waiting.digests or waiting.retries or waiting.escalations):
        return None
    earliest = FOREVER_MS
    for held in waiting.held:  # Plain, because every event comes through here.
        if held.due_ms < earliest:
            earliest = held.due_ms
    for digest in waiting.digests:
        if digest.closes_at_ms < earliest:
            earliest = digest.closes_at_ms
    for retry in waiting.retries:
        if retry.due_ms < earliest:
            earliest = retry.due_ms
    for escalation in waiting.escalations:
        if escalation.due_ms < earliest:
            earliest = escalation.due_ms
    return earliest


def encode_profile(profile: Profile) -> bytes | None:
    """``None`` when there is nothing to keep."""
    return None if profile == EMPTY_PROFILE else _encoder.encode(profile)


def decode_profile(value: bytes | None) -> Profile:
    """Raises ``msgspec.DecodeError`` on damage."""
    return EMPTY_PROFILE if value is None else _profile.decode(value)


def encode_activity(activity: Activity) -> bytes | None:
    """``None`` when there is nothing to keep."""
    return None if activity == EMPTY_ACTIVITY else _encoder.encode(activity)


def decode_activity(value: bytes | None) -> Activity:
    """Raises ``msgspec.DecodeError`` on damage."""
    return EMPTY_ACTIVITY if value is None else _activity.decode(value)


def encode_waiting(waiting: Waiting) -> bytes | None:
    """``None`` when there is nothing to keep; else due time and body."""
    if waiting == EMPTY_WAITING:
        return None
    due_ms = next_due_ms(waiting)
    return (NEVER if due_ms is None else due_ms.to_bytes(8)) + _encoder.encode(waiting)


def decode_waiting(value: bytes | None) -> Waiting:
    """Raises ``msgspec.DecodeError`` on damage."""
    return EMPTY_WAITING if value is None else _waiting.decode(memoryview(value)[8:])


def due_of_waiting(value: bytes | None) -> int | None:
    """Due time of an encoded ``Waiting``, without decoding it."""
    if value is None or value[:8] == NEVER:
        return None
    return int.from_bytes(value[:8])
