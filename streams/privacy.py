"""What stands for a person where their id must not: a keyed hash.

An audit of looks at a person's history and the mark that an erasure leaves must both be findable by
whoever holds the id, and say nothing to whoever does not. A plain hash would not do: ids can be
guessed and hashed in bulk. The key makes that impossible without it.

Invariants: the same id and key give the same hash everywhere; nothing here keeps an id.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

HASH_BYTES = 16
KEY_CHARACTERS_MIN = 16


class PrivacySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps people's ids out of what must outlive them."""

    hash_key: str = ""
    """Any secret text of 16 characters or more, the same for all roles, never changed: it keys the
    hashes that stand for people in the record of looks and in the marks of erasures. Without it
    looks are recorded under a hash that can be guessed, and `flowstate forget` refuses."""
    forgotten_days: int = 400
    """How long the mark of an erasure refuses late events of the one who was forgotten."""

    def __repr__(self) -> str:
        return f"PrivacySettings(forgotten_days={self.forgotten_days})"


class Pseudonyms:
    """Ids to hashes under one key."""

    def __init__(self, settings: PrivacySettings) -> None:
        self.has_key = len(settings.hash_key) >= KEY_CHARACTERS_MIN
        self._key = blake2b(settings.hash_key.encode()).digest()

    def of(self, recipient_id: str) -> bytes:
        """The 16 bytes that stand for a recipient."""
        hashed = blake2b(recipient_id.encode(), key=self._key, digest_size=HASH_BYTES)
        return hashed.digest()
