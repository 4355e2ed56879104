"""Web Push: an encrypted message to whatever push service the browser chose.

Sources: RFC 8030 (protocol, ``TTL``, ``Urgency``, ``Topic``), RFC 8188 and RFC 8291 (encryption),
RFC 8292 (VAPID), https://www.rfc-editor.org/rfc/rfc8030#section-5.

Invariants: the payload is encrypted for the subscription's own keys, with a fresh key and salt on
every attempt; a VAPID token is for one push service's origin and lives at most a day; a
subscription is given up for 404 and 410 alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import urlsplit

import http_ece
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from streams.core.model import Delivery
from streams.sinks.apns import load_key
from streams.sinks.base import (
    Accepted,
    HttpRequest,
    Outcome,
    Rejected,
    Response,
    Retry,
    Unregistered,
    excerpt,
    retry_after_ms,
)
from streams.sinks.payload import fit_payload
from streams.sinks.settings import WebPushSettings
from streams.templates.rendered import Rendered

BODY_BYTES_MAX = 4_096
"""Of the encrypted body: what every push service must take (RFC 8030 §7.2)."""
FRAME_BYTES = 86 + 16 + 1
"""aes128gcm: header (salt 16, record size 4, key id length 1, key 65), tag, padding delimiter."""
TTL_SECONDS_MAX = 2_419_200
"""Four weeks: longer is cut by every push service anyway."""
TOKEN_SECONDS = 12 * 3_600
TOKENS_MAX = 1_000
"""Bound of the cache of tokens, one for each push service's origin."""
THROTTLED_RETRY_MS = 60_000
UNKNOWN_RETRY_MS = 30_000

URGENCY = {"critical": "high", "normal": "normal", "bulk": "low"}


class VapidTokens:
    """VAPID headers, one for each origin, renewed at half their life."""

    def __init__(self, settings: WebPushSettings) -> None:
        self._subject = settings.subject
        self._key = load_key(settings.private_key_pem)
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._public = base64url(point)
        self._headers: dict[str, tuple[int, str]] = {}

    async def current(self, delivery: Delivery, now_ms: int) -> Any | Retry:
        origin = origin_of(delivery.address)
        minted_at_ms, header = self._headers.get(origin, (0, ""))
        if abs(now_ms - minted_at_ms) >= TOKEN_SECONDS * 500:
            if len(self._headers) >= TOKENS_MAX:
                self._headers.clear()
            header = self._mint(origin, now_ms)
            self._headers[origin] = (now_ms, header)
        return header

    def renew(self, used: Any, now_ms: int) -> bool:
        return False

    def _mint(self, origin: str, now_ms: int) -> str:
        claims = {"aud": origin, "exp": now_ms // 1000 + TOKEN_SECONDS, "sub": self._subject}
        return f"vapid t={jwt.encode(claims, self._key, algorithm='ES256')}, k={self._public}"


class WebPush:
    """The two pure functions (pure but for the key and salt that encryption must draw)."""

    def __init__(self, settings: WebPushSettings) -> None:
        self.settings = settings

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """An encrypted POST. Attributes ``p256dh`` and ``auth`` are the subscription's keys."""
        plain = fit_payload(
            payload_builder(delivery), rendered, delivery.data, BODY_BYTES_MAX - FRAME_BYTES
        )
        if plain is None:
            return Rejected("payload_too_large")
        try:
            body = encrypt(
                plain, delivery.attributes.get("p256dh", ""), delivery.attributes.get("auth", "")
            )
        except (ValueError, http_ece.ECEException) as error:
            return Rejected("bad_subscription_keys", type(error).__name__)
        seconds_left = (delivery.expires_at_ms - now_ms) // 1000
        headers = {
            "authorization": credentials,
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(max(0, min(seconds_left, TTL_SECONDS_MAX))),
            "urgency": URGENCY[delivery.priority],
        }
        if delivery.collapse_key:
            # RFC 8030 §5.4: at most 32 characters of the base64url alphabet.
            digest = hashlib.sha256(delivery.collapse_key.encode()).digest()
            headers["topic"] = base64url(digest[:24])
        return HttpRequest(delivery.address, headers, body)

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """RFC 8030 §5, §7.3, §8.4; what the large services add is marked."""
        if 200 <= reply.status < 300:  # 201 Created; 202 with receipts
            return Accepted(reply.headers.get("location", "")[:200] or None)
        detail = f"{reply.status} {excerpt(reply.body)}"
        if reply.status in (404, 410):
            return Unregistered("subscription_gone", detail)
        after = retry_after_ms(reply, now_ms)
        if reply.status == 413:
            return Rejected("payload_too_large", detail)
        if reply.status == 429:
            return Retry("throttled", after or THROTTLED_RETRY_MS, detail=detail)
        if reply.status in (401, 403):
            # Also how services refuse a subscription made for another VAPID key: never prune.
            return Retry("credentials_refused", after, detail=detail)
        if 300 <= reply.status < 400:
            return Retry("redirected", after or UNKNOWN_RETRY_MS, detail=detail)
        if reply.status >= 500:
            # Push services are many: one that is down says nothing about the others.
            return Retry("provider_unavailable", after, detail=detail)
        return Rejected("refused", detail)


def encrypt(plain: bytes, p256dh: str, auth: str) -> bytes:
    """RFC 8291. Raises ``ValueError`` or ``ECEException`` for keys that are none."""
    receiver = unbase64url(p256dh)
    secret = unbase64url(auth)
    if len(receiver) != 65 or len(secret) != 16:
        raise ValueError("keys of the wrong size")
    sender = ec.generate_private_key(ec.SECP256R1())
    return bytes(
        http_ece.encrypt(
            plain, private_key=sender, dh=receiver, auth_secret=secret, version="aes128gcm"
        )
    )


def origin_of(url: str) -> str:
    """RFC 6454 serialization: the port only when it is not the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unbase64url(text: str) -> bytes:
    """With or without padding, either alphabet. Raises ``ValueError``."""
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64url") from error


def payload_builder(delivery: Delivery) -> Any:
    """Encoder of this delivery's message, as a service worker reads it."""
    ours = {
        "delivery_id": delivery.delivery_id,
        "notification_id": delivery.notification_id,
        "category": delivery.category,
    }

    def build(title: str, body: str, extras: dict[str, str]) -> bytes:
        message: dict[str, Any] = {"title": title, "body": body, "flowstate": ours}
        if extras:
            message["data"] = extras
        return msgspec.json.encode(message)

    return build
