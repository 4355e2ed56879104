"""Texts for URLs that say nothing to anybody but us, and that nobody else can make.

AES-SIV (RFC 5297) encrypts and authenticates in one: who reads a link in a forwarded mail, a
browser's history or a proxy's log learns neither whose it is nor what about. Its keys are derived
by HKDF-SHA-256 from a secret *and the purpose*, so that a link made for one thing opens nothing
else. It is deterministic, so the same link is the same text, and no randomness can run short.

Invariants: only the newest secret seals, every listed one opens; what was not sealed by us for
this purpose opens to nothing, whatever it is; all secrets are tried, so the time tells nothing.
"""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TEXT_CHARACTERS_MAX = 4_096
KEY_BYTES = 64
"""AES-256-SIV: one key to authenticate, one to encrypt."""
CIPHERS_MAX = 64
"""Bound of the cache of derived keys: secrets times purposes."""


def seal(secrets: tuple[str, ...], purpose: str, body: bytes) -> str:
    """Text for a URL's path (base64url). Raises ``ValueError`` without secrets or for no body."""
    if not secrets:
        raise ValueError("links need a secret to sign them")
    if not body:
        raise ValueError("nothing to seal")
    sealed = _cipher(secrets[0], purpose).encrypt(body, None)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def unseal(secrets: tuple[str, ...], purpose: str, text: str) -> bytes | None:
    """What ``seal`` was given; ``None`` for anything that we did not seal for this purpose."""
    if len(text) > TEXT_CHARACTERS_MAX or not text.isascii():
        return None
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    opened = [_opened(_cipher(secret, purpose), sealed) for secret in secrets]
    return next((body for body in opened if body is not None), None)


def _opened(cipher: AESSIV, sealed: bytes) -> bytes | None:
    try:
        return cipher.decrypt(sealed, None)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        return None


@lru_cache(CIPHERS_MAX)
def _cipher(secret: str, purpose: str) -> AESSIV:
    info = f"flowstate link: {purpose}".encode()
    return AESSIV(HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret.encode()))
