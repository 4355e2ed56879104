"""What Amazon SES reports through SNS: bounces, complaints, deliveries, opens, clicks.

A message counts only when its topic is listed in ``ses_topic_arns`` (anybody can sign with a topic
of their own) and its signature fits a certificate that one of Amazon's SNS hosts serves. The
delivery is found in the mail's own Message-ID, ``<delivery_id.epoch@domain>``, which SES repeats.

Invariants: nothing is fetched but certificates and confirmations, from Amazon's SNS hosts alone,
without redirects; certificates are kept, a bounded number.

Source: https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html and
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp import web

from streams.api import metrics
from streams.api.callbacks import CallbackTaken, record_receipt
from streams.api.known import Known
from streams.api.problems import refuse
from streams.api.records import Records
from streams.api.routes import JSON, Reply, Route, decode_body, reply
from streams.api.settings import ApiSettings
from streams.api.signatures import SNS_CERTIFICATE, SNS_CONFIRMATION, sns_fits

log = logging.getLogger(__name__)

CERTIFICATES_MAX = 16
ANSWER_BYTES_MAX = 65_536
FETCH_S_MAX = 3.0
OUR_MESSAGE_ID = re.compile(r"<?([0-9a-f]{32})\.\d{1,9}@[^>\s]{1,255}>?")
KINDS = {
    "Delivery": "delivered",
    "Complaint": "complained",
    "Open": "seen",
    "Click": "clicked",
    "Reject": "undelivered",
    "Rendering Failure": "undelivered",
}
# https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html#bounce-types
BOUNCES = {"Permanent": "bounced", "Transient": "soft_bounced", "Undetermined": "soft_bounced"}


class Fetch(Protocol):
    """Gets a URL of Amazon's; injected, so that tests fetch nothing."""

    def __call__(self, url: str) -> Awaitable[bytes]:
        """The body; raises ``OSError``, ``TimeoutError`` or ``aiohttp.ClientError``."""


class SnsMessage(msgspec.Struct, frozen=True):
    """The parts of an SNS message that are looked at; the signature covers all of it."""

    Type: str
    TopicArn: str
    Message: str
    Timestamp: str
    SigningCertURL: str
    SubscribeURL: str | None = None


async def fetch_amazon(url: str) -> bytes:
    """Fetches from Amazon: no redirects, a deadline, a bounded answer."""
    timeout = aiohttp.ClientTimeout(total=FETCH_S_MAX)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return await answer.content.read(ANSWER_BYTES_MAX)


class SesRoutes:
    """Takes what SES reports."""

    def __init__(
        self,
        settings: ApiSettings,
        records: Records,
        known: Known,
        now_ms: Callable[[], int],
        fetch: Fetch = fetch_amazon,
    ) -> None:
        self._settings = settings
        self._records = records
        self._known = known
        self._now_ms = now_ms
        self._fetch = fetch
        self._certificates: dict[str, bytes] = {}

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="POST",
                path="/v1/callbacks/ses",
                operation="sesCallback",
                doc="A notification of Amazon SES through SNS, signed by SNS.",
                handler=self.ses,
                scope=None,
                tag="callbacks",
                body=dict[str, Any],
                body_types=("text/plain", JSON),
                replies={202: Reply("Read; a repeat changes nothing.", CallbackTaken)},
                refusals=("bad_signature", "invalid", "unavailable"),
            )
        ]

    async def ses(self, request: web.Request) -> web.Response:
        """One SNS message."""
        body = await request.read()
        fields = decode_body(body, dict[str, Any])
        message = decode_body(body, SnsMessage)
        await self._check(fields, message)
        if message.Type == "SubscriptionConfirmation":
            await self._confirm(message.SubscribeURL or "")
            return reply(CallbackTaken("recorded"), 202)
        if message.Type != "Notification":
            return reply(CallbackTaken("ignored"), 202)
        is_recorded = False
        for kind, delivery_id, occurred_at_ms in _receipts(message.Message, self._now_ms()):
            is_recorded |= await record_receipt(
                self._records, self._known, kind, delivery_id, occurred_at_ms
            )
        metrics.RECEIPTS.labels("ses", "recorded" if is_recorded else "ignored").inc()
        return reply(CallbackTaken("recorded" if is_recorded else "ignored"), 202)

    async def _check(self, fields: dict[str, Any], message: SnsMessage) -> None:
        """Raises 401 unless a listed topic's message is signed by Amazon, and recent."""
        if message.TopicArn not in self._settings.ses_topic_arns:
            raise refuse("bad_signature", "This topic is not listed in api.ses_topic_arns.")
        url = message.SigningCertURL
        if not SNS_CERTIFICATE.fullmatch(url):
            raise refuse("bad_signature", "SigningCertURL is not one of Amazon SNS.")
        age_ms = self._now_ms() - (_time_ms(message.Timestamp) or 0)
        if abs(age_ms) > self._settings.sns_message_age_ms_max:
            raise refuse("bad_signature", "The message is too old.")
        if not sns_fits(fields, await self._certificate(url)):
            raise refuse("bad_signature", "The signature does not fit the message.")

    async def _certificate(self, url: str) -> bytes:
        known = self._certificates.get(url)
        if known is not None:
            return known
        fetched = await self._fetched(url)
        if len(self._certificates) >= CERTIFICATES_MAX:
            del self._certificates[next(iter(self._certificates))]
        self._certificates[url] = fetched
        return fetched

    async def _confirm(self, url: str) -> None:
        if not SNS_CONFIRMATION.fullmatch(url):
            raise refuse("invalid", "SubscribeURL is not one of Amazon SNS.")
        await self._fetched(url)
        log.warning("subscribed to a topic of SES")

    async def _fetched(self, url: str) -> bytes:
        try:
            return await self._fetch(url)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            log.warning("Amazon SNS does not answer: %r", error)
            raise refuse("unavailable", "Amazon SNS did not answer.", retry_after_s=5) from error


def _receipts(text: str, now_ms: int) -> list[tuple[str, str, int]]:
    """(kind, delivery id, time) of a message of SES; ``[]`` when it is about nothing of ours."""
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    if not isinstance(said, dict) or not isinstance(mail := said.get("mail"), dict):
        return []
    event = said.get("eventType") or said.get("notificationType")
    part = said.get(str(event).lower().replace(" ", ""))
    part = part if isinstance(part, dict) else {}
    kind = KINDS.get(str(event))
    if event == "Bounce":
        kind = BOUNCES.get(str(part.get("bounceType")))
    found = OUR_MESSAGE_ID.fullmatch(_message_id(mail))
    if kind is None or found is None:
        return []
    return [(kind, found[1], _time_ms(part.get("timestamp")) or now_ms)]


def _message_id(mail: dict[str, Any]) -> str:
    """The Message-ID that we gave, not the one that SES gave."""
    common = mail.get("commonHeaders")
    if isinstance(common, dict) and isinstance(common.get("messageId"), str):
        return str(common["messageId"])
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if isinstance(header, dict) and str(header.get("name")).lower() == "message-id":
            return str(header.get("value"))
    return ""


def _time_ms(text: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
