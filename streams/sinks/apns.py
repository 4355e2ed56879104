"""Apple Push Notification service: token-authenticated HTTP/2.

Sources, beside what they say:
https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns

Invariants: ``apns-id`` is the delivery id, so it is the same on every attempt; a device token is
given up only when Apple says that the app is gone from the device, and only if it was registered
before that; our own mistakes (topic, credentials, payload) never cost a token.
"""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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
    uuid_of,
)
from streams.sinks.payload import PUSH_BYTES_MAX, collapse_id, fit_payload
from streams.sinks.settings import ApnsSettings
from streams.templates.rendered import Rendered

# "You cannot reuse a token for more than an hour; refresh no more than once every 20 minutes."
TOKEN_AGE_MS_MIN = 20 * 60_000
UNKNOWN_RETRY_MS = 30_000
"""After an answer that Apple's table does not have and that is no client error."""
THROTTLED_RETRY_MS = 60_000
"""TooManyRequests carries no time; it is about one device token."""
TOKEN_BYTES_MAX = 200
"""Hex digits of a device token. Apple says not to assume a length; a URL needs some bound."""

PRIORITY = {"critical": "10", "normal": "10", "bulk": "5"}

REJECTED = {
    # 400: our request. None of these says anything about the device, but the first two.
    "BadDeviceToken": "bad_device_token",  # perhaps the other environment's: not removed
    "DeviceTokenNotForTopic": "device_token_not_for_topic",
    "BadCollapseId": "bad_collapse_id",
    "BadExpirationDate": "bad_expiration_date",
    "BadMessageId": "bad_message_id",
    "BadPriority": "bad_priority",
    "BadTopic": "bad_topic",
    "DuplicateHeaders": "duplicate_headers",
    "InvalidPushType": "invalid_push_type",
    "MissingDeviceToken": "missing_device_token",
    "MissingTopic": "missing_topic",
    "PayloadEmpty": "payload_empty",
    "TopicDisallowed": "topic_disallowed",
    "BadPath": "bad_path",  # 404
    "MethodNotAllowed": "method_not_allowed",  # 405
    "PayloadTooLarge": "payload_too_large",  # 413
}
QUARANTINED = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic"})
"""A token of the other environment, or of another app: useless here and perhaps right there, so it
is left alone for a while and not removed."""
CREDENTIALS = frozenset(
    {
        # 403: ours, for every device: the breaker opens, nothing is dropped or pruned.
        "BadCertificate",
        "BadCertificateEnvironment",
        "BadEnvironmentKeyIdInToken",
        "Forbidden",
        "InvalidProviderToken",
        "MissingProviderToken",
        "UnrelatedKeyIdInToken",
    }
)
GONE = frozenset({"Unregistered", "ExpiredToken"})  # 410


class ApnsTokens:
    """Provider tokens: one per team, shared by all requests, renewed at ``token_refresh_ms``."""

    def __init__(self, settings: ApnsSettings) -> None:
        self._settings = settings
        self._key = load_key(settings.private_key_pem)
        self._token = ""
        self._minted_at_ms = 0

    async def current(self, delivery: Delivery, now_ms: int) -> Any | Retry:
        # A wall clock that jumped either way makes the token's age wrong: abs sees both.
        if not self._token or abs(now_ms - self._minted_at_ms) >= self._settings.token_refresh_ms:
            self._mint(now_ms)
        return self._token

    def renew(self, used: Any, now_ms: int) -> bool:
        if used != self._token:
            return True  # another request has renewed it meanwhile
        if abs(now_ms - self._minted_at_ms) < TOKEN_AGE_MS_MIN:
            return False  # Apple would answer TooManyProviderTokenUpdates
        self._mint(now_ms)
        return True

    def _mint(self, now_ms: int) -> None:
        claims = {"iss": self._settings.team_id, "iat": now_ms // 1000}
        headers = {"kid": self._settings.key_id}
        self._token = jwt.encode(claims, self._key, algorithm="ES256", headers=headers)
        self._minted_at_ms = now_ms


class Apns:
    """The two pure functions."""

    def __init__(self, settings: ApnsSettings) -> None:
        self.settings = settings

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A POST to the device's path. The address is the device token, in hex."""
        token = delivery.address
        if not 0 < len(token) <= TOKEN_BYTES_MAX or not token.isascii() or not token.isalnum():
            return Rejected("bad_device_token", "not hex digits")
        body = fit_payload(_builder(delivery), rendered, delivery.data, PUSH_BYTES_MAX)
        if body is None:
            return Rejected("payload_too_large")
        headers = {
            "authorization": f"bearer {credentials}",
            "apns-id": uuid_of(delivery.delivery_id),
            "apns-topic": delivery.attributes.get("bundle_id") or self.settings.apns_topic,
            "apns-push-type": "alert",
            "apns-priority": PRIORITY[delivery.priority],
            "apns-expiration": str(delivery.expires_at_ms // 1000),
        }
        collapse = collapse_id(delivery)
        if collapse is not None:
            headers["apns-collapse-id"] = collapse
        sandbox = delivery.attributes.get("environment") == "sandbox"
        endpoint = self.settings.sandbox_endpoint if sandbox else self.settings.endpoint
        return HttpRequest(f"{endpoint}/3/device/{token}", headers, body)

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """Apple's table of statuses and reasons."""
        if reply.status == 200:
            return Accepted(reply.headers.get("apns-id"))
        answer = reply.json()
        reason = str(answer.get("reason", ""))
        detail = reason or excerpt(reply.body)
        if reply.status == 410 or reason in GONE:
            return _gone(delivery, answer.get("timestamp"), reason)
        if reason == "ExpiredProviderToken":
            return Retry("expired_provider_token", blame="credentials", detail=detail, renew=True)
        if reason in CREDENTIALS or (reply.status in (401, 403) and reason not in REJECTED):
            return Retry("credentials_refused", blame="credentials", detail=detail)
        if reason in REJECTED:
            return Rejected(REJECTED[reason], detail, quarantine=reason in QUARANTINED)
        after = retry_after_ms(reply, now_ms)
        if reason == "TooManyProviderTokenUpdates":
            return Retry("too_many_token_updates", after or THROTTLED_RETRY_MS, "quota", detail)
        if reply.status == 429:
            return Retry("too_many_requests", after or THROTTLED_RETRY_MS, detail=detail)
        if reply.status >= 500 or reason == "IdleTimeout":
            return Retry("provider_unavailable", after, "provider", detail)
        if 400 <= reply.status < 500:
            return Rejected("unknown_client_error", f"{reply.status} {detail}")
        return Retry("unexpected_answer", UNKNOWN_RETRY_MS, "provider", f"{reply.status} {detail}")


def load_key(pem: str) -> EllipticCurvePrivateKey:
    """The ``.p8`` key. Raises ``TypeError`` for anything but a P-256 private key."""
    key = load_pem_private_key(pem.encode(), None)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise TypeError("the APNs signing key must be a P-256 private key (a .p8 file)")
    return key


def _gone(delivery: Delivery, since: Any, reason: str) -> Outcome:
    """410 says since when: a token registered again after that is alive (seconds or ms)."""
    if isinstance(since, int) and not isinstance(since, bool):
        since_ms = since if since > 100_000_000_000 else since * 1000
        if delivery.registered_at_ms > since_ms:
            return Retry("registered_since", UNKNOWN_RETRY_MS, detail=reason)
    return Unregistered("unregistered", reason or "410")


def _builder(delivery: Delivery) -> Any:
    """Encoder of this delivery's payload for ``fit_payload``."""

    def build(title: str, body: str, extras: dict[str, str]) -> bytes:
        aps: dict[str, Any] = {"alert": {"title": title, "body": body}, "sound": "default"}
        if delivery.digest_key:
            aps["thread-id"] = delivery.digest_key
        ours = {
            "delivery_id": delivery.delivery_id,
            "notification_id": delivery.notification_id,
            "category": delivery.category,
        }
        payload = {"aps": aps, "flowstate": ours}
        if extras:
            payload["data"] = extras
        return msgspec.json.encode(payload)

    return build
