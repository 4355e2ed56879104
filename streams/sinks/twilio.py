"""Twilio Programmable Messaging.

Sources, beside what they say:
https://www.twilio.com/docs/messaging/api/message-resource
https://www.twilio.com/docs/api/errors  (the codes)
https://www.twilio.com/docs/usage/webhooks/webhooks-security  (signatures of callbacks)

Invariants: 429 was never processed, so it is always safe to try again; Twilio has no idempotency
key, so no answer is ambiguous; an opt-out that the carrier knows (21610) is reported as such and
never tried again. The delivery id travels in the callback's URL.
"""

from __future__ import annotations

import base64
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
from streams.sinks.settings import TwilioSettings
from streams.templates.rendered import Rendered
from streams.templates.segments import fit_segments

VALIDITY_SECONDS_MAX = 36_000
"""``ValidityPeriod`` is 1 to 36,000 s, the latter the default."""
THROTTLED_RETRY_MS = 1_000
QUEUE_FULL_RETRY_MS = 60_000
UNKNOWN_RETRY_MS = 30_000

# The number itself: never again, and nothing else of the recipient is affected.
UNREACHABLE = {
    21211: "invalid_number",  # Invalid 'To' Phone Number
    21214: "unreachable_number",  # 'To' phone number cannot be reached
    21614: "not_a_mobile_number",  # 'To' number is not a valid mobile number
    30005: "unknown_number",  # Unknown destination handset
    30006: "landline_or_unreachable",  # Landline or unreachable carrier
}
REJECTED = {
    21408: "region_not_permitted",  # Permission to send an SMS has not been enabled for the region
    21612: "route_not_available",  # 'To' is not currently reachable using this 'From'
    21617: "body_too_long",  # The concatenated message body exceeds the 1600 character limit
    21602: "body_empty",  # Message body is required
    30004: "blocked",  # Message blocked
    30007: "filtered",  # Carrier violation
}
UNSUBSCRIBED = 21610  # Attempt to send to unsubscribed recipient
QUEUE_FULL = frozenset({21611, 30001})  # queue overflow: later
THROTTLED = frozenset({20429, 14107})  # Too Many Requests; SMS send rate limit exceeded
# Not authenticated; account not active; test credentials; no such account.
CREDENTIALS = frozenset({20003, 20005, 20008, 20404})


class Twilio:
    """The two pure functions."""

    def __init__(self, settings: TwilioSettings) -> None:
        self.settings = settings
        account = settings.account_sid
        pair = f"{account}:{settings.auth_token}".encode()
        self._authorization = "Basic " + base64.b64encode(pair).decode()
        self._url = f"{settings.endpoint}/2010-04-01/Accounts/{account}/Messages.json"

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> HttpRequest | Outcome:
        """A form POST; the address is a phone number."""
        number = e164(delivery.address)
        if number is None:
            return Unregistered("invalid_number", "not a possible phone number")
        settings = self.settings
        limit = settings.segments_max_by_category.get(delivery.category, settings.segments_max)
        text = fit_segments(rendered.body or rendered.title, limit)
        seconds_left = (delivery.expires_at_ms - now_ms) // 1000
        form = {
            "To": number,
            "Body": text,
            "ValidityPeriod": str(max(1, min(seconds_left, VALIDITY_SECONDS_MAX))),
        }
        service = settings.sender.startswith("MG")
        form["MessagingServiceSid" if service else "From"] = settings.sender
        if settings.status_callback_url:
            about = {
                "delivery_id": delivery.delivery_id,
                "notification_id": delivery.notification_id,
                "epoch": delivery.epoch,
            }
            query = urlencode(about)
            form["StatusCallback"] = f"{settings.status_callback_url}?{query}"
        headers = {
            "authorization": self._authorization,
            "content-type": "application/x-www-form-urlencoded",
        }
        return HttpRequest(self._url, headers, urlencode(form).encode())

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """Twilio's code decides, the status where there is none."""
        answer = reply.json()
        if reply.status in (200, 201):
            sid = answer.get("sid")
            if not isinstance(sid, str):
                return Ambiguous("garbled_answer", excerpt(reply.body))
            return Accepted(sid)
        code = answer.get("code")
        code = code if isinstance(code, int) else 0
        detail = f"{code} {answer.get('message', '')}"[:200] if code else excerpt(reply.body)
        after = retry_after_ms(reply, now_ms)
        if reply.status == 429 or code in THROTTLED:
            return Retry("throttled", after or THROTTLED_RETRY_MS, "quota", detail)
        if code in QUEUE_FULL:
            return Retry("queue_full", after or QUEUE_FULL_RETRY_MS, "quota", detail)
        if code == UNSUBSCRIBED:
            return Rejected("unsubscribed", detail, unsubscribed="channel:sms")
        if code in UNREACHABLE:
            return Unregistered(UNREACHABLE[code], detail)
        if code in REJECTED:
            return Rejected(REJECTED[code], detail)
        if code in CREDENTIALS or reply.status in (401, 403, 404):
            return Retry("credentials_refused", after, "credentials", detail)
        if reply.status >= 500:
            return Retry("provider_unavailable", after, "provider", detail)
        if 400 <= reply.status < 500:
            return Rejected("invalid_request", f"{reply.status} {detail}")
        return Retry("unexpected_answer", UNKNOWN_RETRY_MS, "provider", f"{reply.status} {detail}")
