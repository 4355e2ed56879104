"""One-click unsubscribe links (RFC 8058): made here, checked by the API.

The link carries what it is about and an HMAC, so that nobody can unsubscribe another by guessing
and nothing needs to be stored. It does not expire: people keep mail for years, and the law asks
that the link goes on working.

Invariants: a link never contains the address; only the newest secret signs, every listed one
verifies; comparison takes constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

from streams.sinks.settings import UnsubscribeSettings

MAC_BYTES = 16
TOKEN_CHARACTERS_MAX = 2_048


class Unsubscribe(msgspec.Struct, frozen=True, array_like=True):
    """What a link stands for."""

    recipient_id: str
    category: str
    channel: str


def link(settings: UnsubscribeSettings, subject: Unsubscribe) -> str | None:
    """``https://.../u/TOKEN``, or ``None`` when links are not configured."""
    if not settings.base_url or not settings.secrets:
        return None
    body = msgspec.json.encode(subject)
    token = base64.urlsafe_b64encode(_mac(settings.secrets[0], body) + body).decode().rstrip("=")
    return f"{settings.base_url.rstrip('/')}/u/{token}"


def verify(settings: UnsubscribeSettings, token: str) -> Unsubscribe | None:
    """What ``token`` stands for; ``None`` for anything that we did not sign."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        # Not any(): every secret is tried, so that the time does not tell which one fits.
        fits = [hmac.compare_digest(mac, _mac(secret, body)) for secret in settings.secrets]
        return msgspec.json.decode(body, type=Unsubscribe) if True in fits else None
    except (ValueError, msgspec.DecodeError):
        return None


def _mac(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), b"unsubscribe\x00" + body, hashlib.sha256).digest()[:MAC_BYTES]
