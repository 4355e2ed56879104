"""What stands for a person where their id must not: a keyed hash.

An audit of looks at a person's history and the mark that an erasure leaves must both be findable by
whoever holds the id, and say nothing to whoever does not. A plain hash would not do: ids can be
guessed and hashed in bulk. The key makes that impossible without it.

An erasure must also tell workers whom to forget, without holding the id in the open: it is sealed
with a key made from the same secret.

Invariants: the same id and key give the same hash everywhere; nothing here keeps an id.
"""

from __future__ import annotations

import os
from hashlib import blake2b

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.ranges import OneOrMore

HASH_BYTES = 16
KEY_CHARACTERS_MIN = 16
NONCE_BYTES = 12


class PrivacySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps people's ids out of what must outlive them."""

    hash_key: str = ""
    """Any secret text of 16 characters or more, the same for all roles, never changed: it keys the
    hashes that stand for people in the record of looks and in the marks of erasures. Without it
    looks are recorded under a hash that can be guessed, and `flowstate forget` refuses."""
    forgotten_days: OneOrMore = 400
    """How long the mark of an erasure refuses late events of the one who was forgotten."""

    def __repr__(self) -> str:
        return f"PrivacySettings(forgotten_days={self.forgotten_days})"


class Pseudonyms:
    """Ids to hashes under one key."""

    def __init__(self, settings: PrivacySettings) -> None:
        self.has_key = len(settings.hash_key) >= KEY_CHARACTERS_MIN
        secret = settings.hash_key.encode()
        self._key = blake2b(secret).digest()
        self._seal = AESGCM(blake2b(secret, digest_size=32, person=b"flowstate-seal").digest())

    def of(self, recipient_id: str) -> bytes:
        """The 16 bytes that stand for a recipient."""
        hashed = blake2b(recipient_id.encode(), key=self._key, digest_size=HASH_BYTES)
        return hashed.digest()

    def seal(self, recipient_id: str) -> bytes:
        """The id for whoever has the key, and for nobody else."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._seal.encrypt(nonce, recipient_id.encode(), None)

    def unseal(self, sealed: bytes) -> str | None:
        """The id; ``None`` when it was sealed with another key, or is none."""
        try:
            opened = self._seal.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
            return opened.decode()
        except (InvalidTag, ValueError):
            return None
