"""State parts to bytes and back.

A part is MessagePack of its array-like struct. ``Activity`` and ``Waiting`` are stored together,
because nearly every event changes both, and a look-up costs more than the bytes::

    due time   8 bytes, big endian: a restore rebuilds the due index without decoding anything
    0xc1       a byte that begins nothing in MessagePack
    length     of the next, 4 bytes, big endian
    Activity
    Waiting

A part that holds nothing is stored as no record at all. Older releases wrote fewer fields, and
``Activity`` under a key of its own (no 0xc1, and ``Waiting`` at once); newer ones may write more.
All of it is read.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from streams.core.model import Activity, Profile, Waiting

NEVER = b"\xff" * 8
DUE_BYTES = len(NEVER)
TOGETHER = 0xC1
HEAD_BYTES = DUE_BYTES + 1 + 4
FOREVER_MS = (1 << 63) - 1
_FOREVER = int.from_bytes(NEVER)
_head = Struct(">QBI")
"""Due time, ``TOGETHER``, length of the activity."""
_due = Struct(">Q")

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


def encode_moving(activity: Activity, waiting: Waiting) -> bytes | None:
    """What events change; ``None`` when there is nothing to keep."""
    if activity == EMPTY_ACTIVITY and waiting == EMPTY_WAITING:
        return None
    due_ms = next_due_ms(waiting)
    first = _encoder.encode(activity)
    head = _head.pack(_FOREVER if due_ms is None else due_ms, TOGETHER, len(first))
    return b"".join((head, first, _encoder.encode(waiting)))


def has_activity(value: bytes | None) -> bool:
    """False where an ``Activity`` may be under a key of its own."""
    return value is not None and len(value) > HEAD_BYTES and value[DUE_BYTES] == TOGETHER


def waiting_at(value: bytes) -> int:
    """Where ``Waiting`` begins in a value that has an activity, which begins at ``HEAD_BYTES``."""
    length: int = _head.unpack_from(value)[2]
    return HEAD_BYTES + length


def decode_moving(value: bytes | None) -> tuple[Activity, Waiting]:
    """Both; an empty ``Activity`` where there is none in it. Raises ``msgspec.DecodeError``."""
    if value is None:
        return EMPTY_ACTIVITY, EMPTY_WAITING
    if len(value) <= DUE_BYTES:
        raise msgspec.DecodeError(f"{len(value)} bytes are no state")
    if not has_activity(value):
        return EMPTY_ACTIVITY, _waiting.decode(value[DUE_BYTES:])
    split = waiting_at(value)
    return _activity.decode(value[HEAD_BYTES:split]), _waiting.decode(value[split:])


def decode_activity(value: bytes | None) -> Activity:
    """One under a key of its own. Raises ``msgspec.DecodeError`` on damage."""
    return EMPTY_ACTIVITY if value is None else _activity.decode(value)


def due_of_moving(value: bytes | None) -> int | None:
    """Its due time, without decoding it."""
    if value is None:
        return None
    due_ms: int = _due.unpack_from(value)[0]
    return None if due_ms == _FOREVER else due_ms
