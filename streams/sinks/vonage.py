"""Vonage SMS API: form POST, and a 200 whatever happened; the status is in the body.

Sources, beside what they say:
https://developer.vonage.com/en/messaging/sms/overview
https://developer.vonage.com/en/api/sms  (request, response)
https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms  (statuses)

Invariants: a message is accepted only when every part of it is; a throttled one was never
processed; a garbled answer is ambiguous, because the request may have been taken.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from streams.core.model import Delivery
from streams.sinks.base import (
    Accepted,
    Ambiguous,
    HttpRequest,
    Outcome,
    Rejected,
    Response,
    Retry,
    Unregistered,
    excerpt,
    retry_after_ms,
)
from streams.sinks.numbers import e164
from streams.sinks.settings import VonageSettings
from streams.templates.rendered import Rendered
from streams.templates.segments import fit_segments, segments

TTL_MS_MIN, TTL_MS_MAX = 20_000, 604_800_000
"""``ttl``: 20 s to 7 days."""
THROTTLED_RETRY_MS = 1_000
UNKNOWN_RETRY_MS = 30_000

THROTTLED = frozenset({1, 1000})  # Throttled: faster than the account allows
UNAVAILABLE = frozenset({5})  # Internal Error
# Invalid Credentials; Partner Account Barred; Invalid Signature.
CREDENTIALS = frozenset({4, 8, 14})
QUOTA = frozenset({9})  # Partner Quota Violation: no credit left, for everyone
UNREACHABLE = {
    7: "number_barred",  # Number Barred
    34: "unreachable_number",  # Unroutable
    1050: "number_barred",  # the same in newer error codes: permanent
}
REJECTED = {
    2: "missing_parameter",
    3: "invalid_parameter",
    6: "invalid_message",  # "unable to process": too little to remove a number for
    10: "too_many_binds",
    11: "account_not_enabled",
    12: "message_too_long",
    15: "invalid_sender",
    22: "invalid_network_code",
    23: "invalid_callback_url",
    29: "not_whitelisted",  # Non-White-listed Destination
    33: "number_deactivated",
}


class Vonage:
    """The two pure functions."""

    def __init__(self, settings: VonageSettings) -> None:
        self.settings = settings
        self._url = f"{settings.endpoint}/sms/json"

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A form POST; the address is a phone number. The delivery id is the client reference."""
        number = e164(delivery.address)
        if number is None:
            return Unregistered("invalid_number", "not a possible phone number")
        settings = self.settings
        limit = settings.segments_max_by_category.get(delivery.category, settings.segments_max)
        text = fit_segments(rendered.body or rendered.title, limit)
        form = {
            "api_key": settings.api_key,
            "api_secret": settings.api_secret,
            "from": settings.sender,
            "to": number.removeprefix("+"),
            "text": text,
            "ttl": str(max(TTL_MS_MIN, min(delivery.expires_at_ms - now_ms, TTL_MS_MAX))),
            "client-ref": f"{delivery.delivery_id}.{delivery.notification_id}",
        }
        if segments(text).encoding == "ucs2":
            form["type"] = "unicode"
        if settings.status_callback_url:
            form["callback"] = settings.status_callback_url
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return HttpRequest(self._url, headers, urlencode(form).encode())

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """The worst status of the message's parts."""
        after = retry_after_ms(reply, now_ms)
        if reply.status == 429:
            return Retry("throttled", after or THROTTLED_RETRY_MS, "quota")
        if reply.status in (401, 403):
            return Retry("credentials_refused", after, "credentials", excerpt(reply.body))
        if reply.status >= 500:
            return Retry("provider_unavailable", after, "provider", excerpt(reply.body))
        if reply.status != 200:
            return Rejected("invalid_request", f"{reply.status} {excerpt(reply.body)}")
        parts = _parts(reply)
        if not parts:
            return Ambiguous("garbled_answer", excerpt(reply.body))
        bad = [(status, text) for status, text, _ in parts if status != 0]
        if not bad:
            return Accepted(parts[0][2])
        if len(bad) < len(parts):
            # Some parts are on their way: a retry would send those twice.
            return Ambiguous("partly_accepted", f"{len(parts) - len(bad)} of {len(parts)} parts")
        return _refused(*bad[0])


def _refused(status: int, text: str) -> Outcome:
    detail = f"{status} {text}"[:200]
    if status in THROTTLED:
        return Retry("throttled", THROTTLED_RETRY_MS, "quota", detail)
    if status in QUOTA:
        return Retry("no_credit", UNKNOWN_RETRY_MS, "quota", detail)
    if status in UNAVAILABLE:
        return Retry("provider_unavailable", None, "provider", detail)
    if status in CREDENTIALS:
        return Retry("credentials_refused", None, "credentials", detail)
    if status in UNREACHABLE:
        return Unregistered(UNREACHABLE[status], detail)
    if status in REJECTED:
        return Rejected(REJECTED[status], detail)
    return Retry("unknown_status", UNKNOWN_RETRY_MS, "provider", detail)


def _parts(reply: Response) -> list[tuple[int, str, str | None]]:
    """(status, text, message id) of each part; empty when the answer is garbled."""
    messages = reply.json().get("messages")
    found: list[tuple[int, str, str | None]] = []
    for message in messages if isinstance(messages, list) else ():
        status = message.get("status") if isinstance(message, dict) else None
        if not isinstance(status, str) or not status.isascii() or not status.isdigit():
            return []
        identity = message.get("message-id")
        text = str(message.get("error-text", ""))
        found.append((int(status[:9]), text, identity if isinstance(identity, str) else None))
    return found
