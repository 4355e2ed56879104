"""What of a rendered message each kind of destination shows, by the sinks' own requests.

A preview must not say more than the device will: the words are taken back out of the request that
the sink builds, after it has been made to fit. Nothing is sent and no account is needed.

Invariant: every kind of destination has an answer, also the ones that nothing is configured for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.core.model import Delivery, Kind
from streams.sinks import webpush
from streams.sinks.apns import Apns
from streams.sinks.base import HttpRequest, Outcome
from streams.sinks.fcm import Fcm
from streams.sinks.payload import PUSH_BYTES_MAX, fit_payload
from streams.sinks.settings import (
    ApnsSettings,
    FcmSettings,
    ProviderSettings,
    SlackSettings,
    TwilioSettings,
    VonageSettings,
)
from streams.sinks.slack import TEXT_CHARACTERS_MAX, Slack
from streams.templates.rendered import Rendered
from streams.templates.segments import fit_segments, segments

EXAMPLE_APNS_TOKEN = "00" * 32
"""An address that leads nowhere."""
WEBPUSH_BYTES_MAX = webpush.BODY_BYTES_MAX - webpush.FRAME_BYTES


class Fitted(msgspec.Struct, frozen=True):
    """One kind's version of a message."""

    kind: Kind
    title: str
    """Empty for kinds that show none (SMS), the subject for e-mail."""
    body: str
    size: str
    """``412 of 4,096 bytes``, ``2 of 2 messages (gsm7)``; empty where nothing limits it."""
    is_shortened: bool
    """The words are fewer than the template's."""
    refused: str = ""
    """Why the sink would not send it at all."""


def sms_segments_max(providers: Sequence[ProviderSettings], category: str, otherwise: int) -> int:
    """The lowest ceiling of the configured SMS providers for a category."""
    ceilings = [
        provider.segments_max_by_category.get(category, provider.segments_max)
        for provider in providers
        if isinstance(provider, TwilioSettings | VonageSettings)
    ]
    return min(ceilings, default=otherwise)


def fitted(
    delivery: Delivery, rendered: Rendered, kind: Kind, segments_max: int, now_ms: int
) -> Fitted:
    """``rendered`` as this kind of destination shows it. ``delivery`` may be of any kind."""
    delivery = replace(delivery, kind=kind)
    if kind == "sms":
        return _sms(rendered, segments_max)
    if kind == "email":
        return Fitted(kind, rendered.subject, rendered.body, "", False)
    if kind == "webhook":
        return Fitted(kind, rendered.title, rendered.body, "", False)
    if kind == "chat":
        return _chat(delivery, rendered, now_ms)
    return _push(delivery, rendered, kind, now_ms)


def _sms(rendered: Rendered, segments_max: int) -> Fitted:
    whole = rendered.body or rendered.title
    text = fit_segments(whole, segments_max)
    cost = segments(text)
    size = f"{cost.count} of {segments_max} messages ({cost.encoding})"
    return Fitted("sms", "", text, size, text != whole)


def _chat(delivery: Delivery, rendered: Rendered, now_ms: int) -> Fitted:
    settings = SlackSettings()
    delivery = replace(delivery, address=f"https://{settings.hosts[0]}/services/preview")
    content = _content(Slack(settings).build_request(delivery, rendered, None, now_ms))
    text = content["blocks"][0]["text"]["text"]
    title, _, body = text.partition("\n")
    size = f"{len(text):,} of {TEXT_CHARACTERS_MAX:,} characters"
    return Fitted("chat", title, body, size, len(text) == TEXT_CHARACTERS_MAX)


def _push(delivery: Delivery, rendered: Rendered, kind: Kind, now_ms: int) -> Fitted:
    limit = WEBPUSH_BYTES_MAX if kind == "webpush" else PUSH_BYTES_MAX
    request: HttpRequest | Outcome | bytes | None
    if kind == "apns":
        delivery = replace(delivery, address=EXAMPLE_APNS_TOKEN)
        request = Apns(ApnsSettings()).build_request(delivery, rendered, "", now_ms)
    elif kind == "fcm":
        request = Fcm(FcmSettings()).build_request(delivery, rendered, "", now_ms)
    else:
        # As the browser reads it: what is sent is encrypted for one subscription.
        request = fit_payload(
            webpush.payload_builder(delivery), rendered, delivery.data, WEBPUSH_BYTES_MAX
        )
    payload = request.body if isinstance(request, HttpRequest) else request
    if not isinstance(payload, bytes):
        why = f"not even without its words does it fit {limit:,} bytes"
        return Fitted(kind, "", "", "", False, why)
    content = msgspec.json.decode(payload)
    if kind == "apns":
        words = content["aps"]["alert"]
    else:
        words = content["message"]["notification"] if kind == "fcm" else content
    title, body = words["title"], words["body"]
    size = f"{len(payload):,} of {limit:,} bytes"
    return Fitted(kind, title, body, size, (title, body) != (rendered.title, rendered.body))


def _content(request: HttpRequest | Outcome) -> Any:
    assert isinstance(request, HttpRequest), "the example's address is one of the provider's"
    return msgspec.json.decode(request.body)
