"""Links that carry their own proof: what they are about, when they were made, and an HMAC.

Whoever holds such a link may do the one thing that it is for, and nothing else: the purpose goes
into the HMAC, so a link to open a message never opens a preference page, and the target of a
redirect is inside, so nobody can make a redirect of ours lead anywhere else.

Invariants: only the newest secret signs, every listed one verifies; comparison takes constant
time; a link holds ids of ours and never an address.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Literal

import msgspec

MAC_BYTES = 16
TOKEN_CHARACTERS_MAX = 4_096
TARGET_CHARACTERS_MAX = 2_048

Purpose = Literal["preferences", "open", "click"]


class Link(msgspec.Struct, frozen=True, array_like=True):
    """What a link stands for. Empty fields do not apply to its purpose."""

    recipient_id: str
    made_at_ms: int
    notification_id: str = ""
    delivery_id: str = ""
    target: str = ""
    """Where a click leads."""


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Link)


def token(secrets: tuple[str, ...], purpose: Purpose, link: Link) -> str:
    """Text for a URL's path. Raises ``ValueError`` without secrets, or for a target that is bad."""
    if not secrets:
        raise ValueError("links need a secret to sign them")
    if link.target and not is_web_url(link.target):
        raise ValueError("a link leads to an http or https URL")
    body = _encode(link)
    signed = base64.urlsafe_b64encode(_mac(secrets[0], purpose, body) + body)
    return signed.decode().rstrip("=")


def verify(secrets: tuple[str, ...], purpose: Purpose, text: str) -> Link | None:
    """What ``text`` stands for; ``None`` for anything that we did not sign for this purpose."""
    if len(text) > TOKEN_CHARACTERS_MAX or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        # Not any(): every secret is tried, so that the time does not tell which one fits.
        fits = [hmac.compare_digest(mac, _mac(secret, purpose, body)) for secret in secrets]
        return _decoder.decode(body) if True in fits else None
    except (ValueError, msgspec.DecodeError):
        return None


def is_web_url(url: str) -> bool:
    """An absolute http(s) URL without control characters: safe in a Location header."""
    return (
        url.startswith(("https://", "http://"))
        and len(url) <= TARGET_CHARACTERS_MAX
        and url.isascii()
        and url.isprintable()
        and " " not in url
    )


def _mac(secret: str, purpose: str, body: bytes) -> bytes:
    about = f"link:{purpose}\x00".encode()
    return hmac.new(secret.encode(), about + body, hashlib.sha256).digest()[:MAC_BYTES]
