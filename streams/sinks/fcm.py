"""Firebase Cloud Messaging, HTTP v1.

Sources, beside what they say:
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
https://firebase.google.com/docs/cloud-messaging/scale-fcm  (retries, quota, ramping up)
https://firebase.google.com/docs/cloud-messaging/manage-tokens  (which answers end a token)

Invariants: a registration token is given up only for UNREGISTERED, or for INVALID_ARGUMENT when
FCM says that the token is what is invalid; never for our payload, project or credentials.
"""

from __future__ import annotations

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
from streams.sinks.payload import PUSH_BYTES_MAX, collapse_id, fit_payload
from streams.sinks.settings import FcmSettings
from streams.templates.rendered import Rendered

THROTTLED_RETRY_MS = 60_000
"""429 without Retry-After: "default to 60 seconds"."""
UNAVAILABLE_RETRY_MS = 10_000
"""500 and 503: "a minimum of 10 seconds before the first retry"."""
TTL_SECONDS_MAX = 2_419_200
"""Four weeks, FCM's maximum and default."""
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

PRIORITY = {"critical": "HIGH", "normal": "HIGH", "bulk": "NORMAL"}


class Fcm:
    """The two pure functions."""

    def __init__(self, settings: FcmSettings) -> None:
        self.settings = settings
        self._url = f"{settings.endpoint}/v1/projects/{settings.project_id}/messages:send"

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A POST of one message; ``credentials`` is an OAuth access token."""
        body = fit_payload(_builder(delivery, now_ms), rendered, delivery.data, PUSH_BYTES_MAX)
        if body is None:
            return Rejected("payload_too_large")
        headers = {
            "authorization": f"Bearer {credentials}",
            "content-type": "application/json; charset=utf-8",
        }
        return HttpRequest(self._url, headers, body)

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """Status first, then FCM's own error code in ``error.details``."""
        answer = reply.json()
        if reply.status == 200:
            return Accepted(str(answer.get("name", "")) or None)
        code, is_our_payload = _error(answer)
        detail = code or excerpt(reply.body)
        after = retry_after_ms(reply, now_ms)
        if code == "UNREGISTERED":
            return Unregistered("unregistered", detail)
        if code == "SENDER_ID_MISMATCH":
            # The token belongs to another project: useless here, perhaps right elsewhere.
            return Rejected("sender_id_mismatch", detail)
        if code == "INVALID_ARGUMENT" and not is_our_payload:
            return Unregistered("invalid_token", detail)
        if code == "THIRD_PARTY_AUTH_ERROR" or reply.status in (401, 403):
            # 401 UNAUTHENTICATED is also how an access token that was revoked looks.
            renew = reply.status == 401 and code != "THIRD_PARTY_AUTH_ERROR"
            return Retry("credentials_refused", None, "credentials", detail, renew=renew)
        if reply.status == 429:
            # QUOTA_EXCEEDED covers project, device and topic; the pause is harmless for one device.
            return Retry("quota_exceeded", after or THROTTLED_RETRY_MS, "quota", detail)
        if reply.status >= 500:
            pause = max(after or 0, UNAVAILABLE_RETRY_MS)
            return Retry("provider_unavailable", pause, "provider", detail)
        if 400 <= reply.status < 500:
            return Rejected("invalid_request", f"{reply.status} {detail}")
        return Retry("unexpected_answer", UNAVAILABLE_RETRY_MS, "provider", f"{reply.status}")


def _error(answer: dict[str, Any]) -> tuple[str, bool]:
    """(FCM's error code, whether our payload is what is wrong).

    INVALID_ARGUMENT with a ``BadRequest`` detail names fields of our payload, unless the only
    field is the token itself; with ``FcmError`` alone it means the token.
    """
    error = answer.get("error")
    if not isinstance(error, dict):
        return "", True
    code, our_payload = "", False
    details = error.get("details")
    for item in details if isinstance(details, list) else ():
        if not isinstance(item, dict):
            continue
        if item.get("@type") == FCM_ERROR:
            code = str(item.get("errorCode", ""))
        elif item.get("@type") == BAD_REQUEST:
            our_payload = our_payload or _violates_more_than_token(item)
    if not code:
        # Without FcmError nothing has been said about a token, so none may be blamed.
        return str(error.get("status", "")), True
    return code, our_payload


def _violates_more_than_token(bad_request: dict[str, Any]) -> bool:
    violations = bad_request.get("fieldViolations")
    if not isinstance(violations, list) or not violations:
        return True
    fields = [v.get("field") if isinstance(v, dict) else None for v in violations]
    return any(field != "message.token" for field in fields)


def _builder(delivery: Delivery, now_ms: int) -> Any:
    """Encoder of this delivery's message for ``fit_payload``."""
    ttl_seconds = max(0, min((delivery.expires_at_ms - now_ms) // 1000, TTL_SECONDS_MAX))
    android: dict[str, Any] = {"priority": PRIORITY[delivery.priority], "ttl": f"{ttl_seconds}s"}
    collapse = collapse_id(delivery)
    if collapse is not None:
        android["collapse_key"] = collapse
    ours = {
        "flowstate_delivery_id": delivery.delivery_id,
        "flowstate_notification_id": delivery.notification_id,
        "flowstate_category": delivery.category,
    }

    def build(title: str, body: str, extras: dict[str, str]) -> bytes:
        # Reserved words of FCM ("from", "google...", "gcm...") would have the message refused.
        data = {f"data_{name}": value for name, value in extras.items()} | ours
        message = {
            "token": delivery.address,
            "notification": {"title": title, "body": body},
            "data": data,
            "android": android,
        }
        return msgspec.json.encode({"message": message})

    return build
