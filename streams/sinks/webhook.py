"""Standard Webhooks to customers' servers.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Invariants: ``webhook-id`` is the delivery id and constant over retries, ``webhook-timestamp`` is
fresh on each; the signature covers the very bytes that are sent; while a secret rotates every
listed one signs. A redirect is a failure; 410 ends the endpoint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec

from streams.core.model import Delivery
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
from streams.sinks.settings import WebhookSettings
from streams.templates.rendered import Rendered

SECRET_PREFIX = "whsec_"  # noqa: S105 - the specification's prefix, no secret
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64


class Webhook:
    """The two pure functions."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.settings = settings
        self._keys = [secret_key(secret) for secret in settings.secrets]

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A signed JSON POST. The address is the endpoint's URL."""
        try:
            own = delivery.attributes.get("secret", "")
            keys = [secret_key(secret) for secret in own.split()] or self._keys
        except ValueError as error:
            return Rejected("bad_secret", str(error))
        if not keys:
            return Rejected("no_secret", "an endpoint without a secret cannot be signed for")
        body = _body(delivery, rendered)
        identity, timestamp = delivery.delivery_id, str(now_ms // 1000)
        headers = {
            "content-type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(sign(key, identity, timestamp, body) for key in keys),
        }
        return HttpRequest(delivery.address, headers, body)

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """2xx is taken, 410 ends the endpoint, everything else is tried again."""
        if 200 <= reply.status < 300:
            return Accepted(delivery.delivery_id)
        detail = f"{reply.status} {excerpt(reply.body)}"
        if reply.status == 410:
            return Unregistered("gone", detail)
        after = retry_after_ms(reply, now_ms)
        if 300 <= reply.status < 400:
            return Retry("redirected", after, detail=detail)
        if reply.status == 413:
            return Rejected("payload_too_large", detail)
        # One endpoint's trouble says nothing about another's: never the breaker's business.
        return Retry("throttled" if reply.status == 429 else "refused", after, detail=detail)


def sign(key: bytes, identity: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``{id}.{timestamp}.{body}``."""
    content = f"{identity}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def secret_key(secret: str) -> bytes:
    """Bytes of a ``whsec_`` secret. Raises ``ValueError`` unless it has 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is whsec_ and base64") from error
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError("a webhook secret has 24 to 64 bytes")
    return key


def _body(delivery: Delivery, rendered: Rendered) -> bytes:
    content = {
        "type": f"notification.{delivery.category}",
        # The notification's own time: with it the body is the same bytes on every attempt.
        "timestamp": datetime.fromtimestamp(delivery.created_at_ms / 1000, UTC),
        "data": {
            "delivery_id": delivery.delivery_id,
            "notification_id": delivery.notification_id,
            "recipient_id": delivery.recipient_id,
            "category": delivery.category,
            "title": rendered.title,
            "body": rendered.body,
            "count": delivery.count,
            "actors": delivery.actors,
            "data": delivery.data,
            "items": [
                {"event_id": item.event_id, "created_at_ms": item.created_at_ms, "data": item.data}
                for item in delivery.items
            ],
        },
    }
    return msgspec.json.encode(content)
