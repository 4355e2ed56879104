"""What providers report back: Twilio's status callbacks, and generic signed webhooks.

A signature is checked before anything else is looked at, then the ledger is asked what the id is
about. A callback about an id that nobody knows is answered with 202 and makes no record: to say
more would let a stranger test ids, and to refuse would make the provider send it again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from streams.api import metrics
from streams.api.known import Known
from streams.api.problems import refuse
from streams.api.records import Records
from streams.api.routes import FORM, JSON, Parameter, Reply, Route, check_type, decode_body, reply
from streams.api.settings import ApiSettings
from streams.api.signatures import twilio_fits, webhook_fits

# https://www.twilio.com/docs/messaging/api/message-resource#message-status-values
TWILIO_KINDS = {
    "delivered": "delivered",
    "read": "seen",
    "undelivered": "undelivered",
    "failed": "undelivered",
}
# https://www.twilio.com/docs/api/errors: the number itself, so nothing more is sent to it.
TWILIO_BOUNCES = frozenset({"30005", "30006"})  # unknown handset; landline or unreachable carrier
FIELDS_MAX = 200


class CallbackTaken(msgspec.Struct, frozen=True):
    """``recorded``: known and written. ``ignored``: nothing to record."""

    status: Literal["recorded", "ignored"]


class WebhookData(msgspec.Struct, frozen=True, kw_only=True):
    """What a generic receipt is about; ``recipient_id``, when given, must be the right one."""

    delivery_id: str | None = None
    notification_id: str | None = None
    recipient_id: str | None = None
    occurred_at_ms: int | None = None


class WebhookReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Standard Webhooks' payload: ``type`` is ``receipt.KIND``."""

    type: Literal[
        "receipt.delivered",
        "receipt.undelivered",
        "receipt.seen",
        "receipt.clicked",
        "receipt.bounced",
        "receipt.soft_bounced",
        "receipt.complained",
    ]
    data: WebhookData
    timestamp: str | None = None


TAKEN = {202: Reply("Read; a repeat changes nothing.", CallbackTaken)}
REFUSALS = ("bad_signature", "unsupported_media_type", "unavailable")


class CallbackRoutes:
    """Takes what providers report."""

    def __init__(
        self,
        settings: ApiSettings,
        records: Records,
        known: Known,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._records = records
        self._known = known
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        headers = tuple(
            Parameter(name, "header", doc, required=False)
            for name, doc in (
                ("webhook-id", "The message's id, the same on a resend."),
                ("webhook-timestamp", "Seconds since 1970."),
                ("webhook-signature", "v1,BASE64 over id.timestamp.body; several while rotating."),
            )
        )
        return [
            Route(
                method="POST",
                path="/v1/callbacks/twilio",
                operation="twilioCallback",
                doc="A status callback of Twilio, signed with X-Twilio-Signature.",
                handler=self.twilio,
                scope=None,
                tag="callbacks",
                parameters=(
                    Parameter("delivery_id", "query", "Which delivery it is about."),
                    Parameter("X-Twilio-Signature", "header", "HMAC-SHA1 over URL and form."),
                ),
                body=dict[str, str],
                body_types=(FORM,),
                replies=TAKEN,
                refusals=REFUSALS,
            ),
            Route(
                method="POST",
                path="/v1/callbacks/webhook",
                operation="webhookCallback",
                doc="A receipt from any provider, signed as Standard Webhooks says.",
                handler=self.webhook,
                scope=None,
                tag="callbacks",
                parameters=headers,
                body=WebhookReceipt,
                replies=TAKEN,
                refusals=(*REFUSALS, "invalid"),
            ),
        ]

    async def twilio(self, request: web.Request) -> web.Response:
        """A status callback."""
        check_type(request, FORM)
        body = await request.read()
        try:
            form = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
            )
        except ValueError as error:
            raise refuse("malformed", "The form cannot be read.") from error
        signature = request.headers.get("X-Twilio-Signature", "")
        base = self._settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"
        url = base + request.raw_path
        if not twilio_fits(self._settings.twilio_auth_tokens, url, form, signature):
            raise refuse("bad_signature", "X-Twilio-Signature does not fit the URL and the form.")
        fields = dict(form)
        kind = TWILIO_KINDS.get(fields.get("MessageStatus", fields.get("SmsStatus", "")))
        if kind == "undelivered" and fields.get("ErrorCode") in TWILIO_BOUNCES:
            kind = "bounced"
        delivery_id = request.query.get("delivery_id", "")
        return await self._take("twilio", kind, delivery_id, self._now_ms())

    async def webhook(self, request: web.Request) -> web.Response:
        """A generic receipt."""
        check_type(request, JSON)
        body = await request.read()
        settings, headers = self._settings, request.headers
        fits = webhook_fits(
            settings.webhook_secrets,
            headers.get("webhook-id", ""),
            headers.get("webhook-timestamp", ""),
            body,
            headers.get("webhook-signature", ""),
            self._now_ms(),
            settings.webhook_tolerance_ms,
        )
        if not fits:
            raise refuse("bad_signature", "webhook-signature does not fit, or is too old.")
        receipt = decode_body(body, WebhookReceipt)
        data = receipt.data
        kind = receipt.type.removeprefix("receipt.")
        occurred_at_ms = data.occurred_at_ms or _time_ms(receipt.timestamp) or self._now_ms()
        public_id = data.delivery_id or data.notification_id or ""
        return await self._take("webhook", kind, public_id, occurred_at_ms, data.recipient_id)

    async def _take(
        self,
        origin: str,
        kind: str | None,
        public_id: str,
        occurred_at_ms: int,
        recipient_id: str | None = None,
    ) -> web.Response:
        is_recorded = kind is not None and await record_receipt(
            self._records, self._known, kind, public_id, occurred_at_ms, recipient_id
        )
        metrics.RECEIPTS.labels(origin, "recorded" if is_recorded else "ignored").inc()
        return reply(CallbackTaken("recorded" if is_recorded else "ignored"), 202)


async def record_receipt(
    records: Records,
    known: Known,
    kind: str,
    public_id: str,
    occurred_at_ms: int,
    recipient_id: str | None = None,
    name: str | None = None,
) -> bool:
    """Writes a receipt about a known id; ``False`` when it is not known. Raises 503."""
    about = await known.by_id(public_id)
    if about is None or (recipient_id is not None and recipient_id != about.recipient_id):
        return False
    mapping: dict[str, Any] = {
        "recipient_id": about.recipient_id,
        "kind": kind,
        "notification_id": about.notification_id,
        "delivery_id": about.delivery_id,
        "event_id": about.event_id,
        "destination_id": about.destination_id,
        "name": name,
        "occurred_at_ms": occurred_at_ms,
    }
    await records.write("receipt", [mapping])
    return True


def _time_ms(text: str | None) -> int | None:
    """ISO 8601 with a zone -> Unix milliseconds."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
