"""Who is in a digest: exact counts, distinct actors, and how an event leaves again.

Of each member 24 bytes are kept: a hash of its event id, a hash of its actor, its expiry. That is
enough to take out an event that was cancelled, the events of an actor who was muted, and events
that expired while the digest waited, and to still count exactly; an open digest and a closed one
that is held keep the same lists. Digests stored by release 1 have no facts: their events can be
taken out by id, and their actors stay as counted.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from streams.core import ids, sizes
from streams.core.model import DigestItem, Notification, OpenDigest, packed

HASH_BYTES: Final = 8
FACT_BYTES: Final = 16
NOBODY: Final = bytes(HASH_BYTES)
_EXPIRY: Final = struct.Struct(">8xQ")
"""The second half of a fact; the first, the actor's hash, is passed over."""


def fact(actor: bytes, expires_at_ms: int) -> bytes:
    """What is kept of one event: its actor's hash (``NOBODY`` for none) and its expiry."""
    return actor + expires_at_ms.to_bytes(8, "big")


def position(members: bytes, event_id: str) -> int:
    """Place of an event among the members, or -1."""
    return place(members, ids.hash8(event_id)) if members else -1


def place(hashes: bytes, wanted: bytes) -> int:
    """Place of a hash in a list of them, or -1. A hit may be across entries: then the next."""
    before, found, _ = hashes.partition(wanted)  # Nearly always in vain: the cheapest way to ask.
    if not found:
        return -1
    at = len(before)
    while at > 0 and at % HASH_BYTES:
        at = hashes.find(wanted, at + 1)
    return at // HASH_BYTES if at >= 0 else -1


def has_facts(members: bytes, facts: bytes) -> bool:
    """False for what release 1 stored."""
    return 2 * len(members) == len(facts)


def distinct_actors(facts: bytes) -> bytes:
    """Hashes of the actors, each once, in the order of their first event."""
    hashes = (facts[at : at + HASH_BYTES] for at in range(0, len(facts), FACT_BYTES))
    return b"".join(dict.fromkeys(actor for actor in hashes if actor != NOBODY))


def first_expiry_ms(facts: bytes) -> int | None:
    """When the first member expires."""
    return min(_EXPIRY.iter_unpack(facts))[0] if facts else None


def unwanted(facts: bytes, muted: Collection[bytes], now_ms: int) -> set[int]:
    """Places of the members whose actor is muted or that have expired."""
    now = now_ms.to_bytes(8)
    return {
        at // FACT_BYTES
        for at in range(0, len(facts), FACT_BYTES)
        if facts[at + HASH_BYTES : at + FACT_BYTES] <= now or facts[at : at + HASH_BYTES] in muted
    }


def leave_open(digest: OpenDigest, gone: set[int]) -> OpenDigest:
    """The open digest without the members at these places."""
    members, facts, items = _left(digest.members, digest.member_facts, digest.shown, gone)
    known = has_facts(digest.members, digest.member_facts)
    return replace(
        digest,
        count=digest.count - len(gone),
        members=members,
        member_facts=facts,
        items=tuple(map(packed, items)),
        actors=distinct_actors(facts) if known else digest.actors,
        size_bytes=sum(sizes.item_bytes(item) for item in items),
        collapse=_still_in(digest.collapse, members),
    )


def leave_closed(notification: Notification, gone: set[int]) -> Notification:
    """The closed digest without the members at these places."""
    members, facts, items = _left(
        notification.members, notification.member_facts, notification.items, gone
    )
    known = has_facts(notification.members, notification.member_facts)
    return replace(
        notification,
        count=notification.count - len(gone),
        members=members,
        member_facts=facts,
        items=items,
        actors=len(distinct_actors(facts)) // HASH_BYTES if known else notification.actors,
        data=items[-1].data if items else notification.data,
        collapse=_still_in(notification.collapse, members),
    )


def _still_in(collapse: dict[str, str], members: bytes) -> dict[str, str]:
    """The collapse keys of those who stay."""
    return {key: one for key, one in collapse.items() if position(members, one) >= 0}


def _left(
    members: bytes, facts: bytes, items: tuple[DigestItem, ...], gone: set[int]
) -> tuple[bytes, bytes, tuple[DigestItem, ...]]:
    """Members, facts and shown items of those who stay."""
    left = {members[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in gone}
    stay = [at for at in range(len(members) // HASH_BYTES) if at not in gone]
    if has_facts(members, facts):
        facts = b"".join(facts[at * FACT_BYTES : (at + 1) * FACT_BYTES] for at in stay)
    return (
        b"".join(members[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in stay),
        facts,
        tuple(item for item in items if ids.hash8(item.event_id) not in left),
    )
