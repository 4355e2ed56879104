"""One case per sink for ``test_all``: how it is configured, and how its provider says things."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from streams.core.model import Delivery
from streams.sinks import settings as s
from streams.sinks.apns import Apns
from streams.sinks.base import (
    Credentials,
    HttpRequest,
    MailRequest,
    Outcome,
    Response,
    Sink,
    Transport,
)
from streams.sinks.fcm import Fcm
from streams.sinks.slack import Slack
from streams.sinks.smtp import Smtp
from streams.sinks.twilio import Twilio
from streams.sinks.vonage import Vonage
from streams.sinks.webhook import Webhook
from streams.sinks.webpush import WebPush, base64url
from streams.templates.rendered import Rendered
from tests.agents.delivering import delivery

NOW_MS = 1_700_000_000_000
RENDERED = Rendered("Title", "Body", "Subject")
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ANYWHERE = s.AddressRules(
    schemes=("http", "https"), ports=tuple(range(1, 65_536)), allow_networks=("127.0.0.0/8",)
)


async def answered(
    sink: Sink, credentials: Credentials, transport: Transport, some: Delivery
) -> Outcome:
    """What came of one delivery that was really sent."""
    now_ms = time.time_ns() // 1_000_000
    request = sink.build_request(some, RENDERED, await credentials.current(some, now_ms), now_ms)
    assert isinstance(request, HttpRequest)
    reply = await transport.send(request)
    assert isinstance(reply, Response), reply
    return sink.classify(some, reply, now_ms)


@cache
def p256_pem() -> str:
    """A P-256 private key."""
    return pem_of(ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_pem() -> str:
    """An RSA private key."""
    return pem_of(rsa.generate_private_key(65537, 2048))


def pem_of(key: Any) -> str:
    """A private key as text."""
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


@cache
def browser() -> tuple[ec.EllipticCurvePrivateKey, dict[str, str]]:
    """A subscription: its private key, and its attributes."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return key, {"p256dh": base64url(point), "auth": base64url(b"a" * 16)}


def json_reply(status: int, content: Any, **headers: str) -> Response:
    """A JSON answer."""
    return Response(status, headers, msgspec.json.encode(content))


def fcm_error(status: int, code: str, **headers: str) -> Response:
    """An error as FCM words it."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [{"@type": kind, "errorCode": code}]
    return json_reply(status, {"error": {"code": status, "details": details}}, **headers)


def _vonage(status: str, text: str = "") -> Response:
    return json_reply(200, {"messages": [{"status": status, "error-text": text}]})


class Case(msgspec.Struct, frozen=True):
    """One sink."""

    name: str
    make: Callable[[], Sink]
    kind: str
    accepted: Response
    unavailable: Response
    throttled: Callable[[dict[str, str]], Response]
    refused_credentials: Response
    """How the provider says that *we* are not who we say."""
    gone: Response | None
    """How it says that the address is nobody's any more."""
    identity_of: Callable[[HttpRequest | MailRequest], str]
    """The delivery id as it travels."""
    address: str = ""
    attributes: dict[str, str] = {}
    blames_credentials: bool = True

    def delivery(self, **changes: Any) -> Delivery:
        """A delivery that this sink takes."""
        given = {"attributes": self.attributes, "expires_at_ms": NOW_MS + 3_600_000} | changes
        if self.address:
            given.setdefault("address", self.address)
        return delivery(0xABC, self.kind, **given)


def _form(request: HttpRequest | MailRequest, name: str) -> str:
    from urllib.parse import parse_qs

    assert isinstance(request, HttpRequest)
    return parse_qs(request.body.decode())[name][0]


def _json(request: HttpRequest | MailRequest) -> Any:
    assert isinstance(request, HttpRequest)
    return msgspec.json.decode(request.body)


def _callback_id(request: HttpRequest | MailRequest) -> str:
    from urllib.parse import parse_qs, urlsplit

    return parse_qs(urlsplit(_form(request, "StatusCallback")).query)["delivery_id"][0]


def _header(request: HttpRequest | MailRequest, name: str) -> str:
    assert isinstance(request, HttpRequest)
    return request.headers[name]


def _message_id(request: HttpRequest | MailRequest) -> str:
    assert isinstance(request, MailRequest)
    line = next(h for h in request.message.split(b"\r\n") if h.startswith(b"Message-ID: <"))
    return line.partition(b"<")[2].partition(b".")[0].decode()


def _decrypted_id(request: HttpRequest | MailRequest) -> str:
    import http_ece

    assert isinstance(request, HttpRequest)
    key, attributes = browser()
    secret = base64.urlsafe_b64decode(attributes["auth"] + "==")
    plain = http_ece.decrypt(request.body, private_key=key, auth_secret=secret, version="aes128gcm")
    return str(msgspec.json.decode(plain)["flowstate"]["delivery_id"])


CASES = [
    Case(
        name="apns",
        make=lambda: Apns(s.ApnsSettings(apns_topic="org.example", private_key_pem=p256_pem())),
        kind="apns",
        accepted=Response(200, {"apns-id": "x"}, b""),
        unavailable=json_reply(503, {"reason": "ServiceUnavailable"}),
        throttled=lambda headers: json_reply(429, {"reason": "TooManyRequests"}, **headers),
        refused_credentials=json_reply(403, {"reason": "InvalidProviderToken"}),
        gone=json_reply(410, {"reason": "Unregistered", "timestamp": NOW_MS}),
        identity_of=lambda r: _header(r, "apns-id").replace("-", ""),
    ),
    Case(
        name="fcm",
        make=lambda: Fcm(s.FcmSettings(project_id="p")),
        kind="fcm",
        accepted=json_reply(200, {"name": "projects/p/messages/1"}),
        unavailable=fcm_error(503, "UNAVAILABLE"),
        throttled=lambda headers: fcm_error(429, "QUOTA_EXCEEDED", **headers),
        refused_credentials=json_reply(401, {"error": {"status": "UNAUTHENTICATED"}}),
        gone=fcm_error(404, "UNREGISTERED"),
        identity_of=lambda r: _json(r)["message"]["data"]["flowstate_delivery_id"],
    ),
    Case(
        name="twilio",
        make=lambda: Twilio(
            s.TwilioSettings(
                account_sid="AC1",
                auth_token="t",
                sender="+15005550006",
                status_callback_url="https://example.com/status",
            )
        ),
        kind="sms",
        accepted=json_reply(201, {"sid": "SM1"}),
        unavailable=json_reply(503, {"code": 20503}),
        throttled=lambda headers: json_reply(429, {"code": 20429}, **headers),
        refused_credentials=json_reply(401, {"code": 20003}),
        gone=json_reply(400, {"code": 21614}),
        identity_of=_callback_id,
    ),
    Case(
        name="vonage",
        make=lambda: Vonage(s.VonageSettings(api_key="k", api_secret="s", sender="F")),
        kind="sms",
        accepted=_vonage("0"),
        unavailable=_vonage("5"),
        throttled=lambda headers: Response(429, headers, b""),
        refused_credentials=_vonage("4"),
        gone=_vonage("7"),
        identity_of=lambda r: _form(r, "client-ref").partition(".")[0],
    ),
    Case(
        name="smtp",
        make=lambda: Smtp(s.SmtpSettings()),
        kind="email",
        accepted=Response(250, {}, b"2.0.0 Ok"),
        unavailable=Response(451, {}, b"4.3.0 later"),
        throttled=lambda headers: Response(454, {}, b"Throttling failure"),
        refused_credentials=Response(535, {}, b"5.7.8 Authentication failed"),
        gone=Response(550, {}, b"5.1.1 no such user"),
        identity_of=_message_id,
    ),
    Case(
        name="webhook",
        make=lambda: Webhook(s.WebhookSettings(secrets=(SECRET,))),
        kind="webhook",
        accepted=Response(204, {}, b""),
        unavailable=Response(503, {}, b""),
        throttled=lambda headers: Response(429, headers, b""),
        refused_credentials=Response(401, {}, b""),
        gone=Response(410, {}, b""),
        identity_of=lambda r: _header(r, "webhook-id"),
        address="https://example.com/hook",
        blames_credentials=False,
    ),
    Case(
        name="webpush",
        make=lambda: WebPush(s.WebPushSettings(private_key_pem=p256_pem())),
        kind="webpush",
        accepted=Response(201, {"location": "/message/1"}, b""),
        unavailable=Response(503, {}, b""),
        throttled=lambda headers: Response(429, headers, b""),
        refused_credentials=Response(403, {}, b""),
        gone=Response(410, {}, b""),
        identity_of=_decrypted_id,
        address="https://push.example.com/send/1",
        attributes=browser()[1],
        blames_credentials=False,
    ),
    Case(
        name="slack",
        make=lambda: Slack(s.SlackSettings()),
        kind="chat",
        accepted=Response(200, {}, b"ok"),
        unavailable=Response(503, {}, b""),
        throttled=lambda headers: Response(429, headers, b"rate_limited"),
        refused_credentials=Response(403, {}, b"action_prohibited"),
        gone=Response(404, {}, b"no_service"),
        identity_of=lambda r: _json(r)["blocks"][0]["block_id"].partition(".")[0],
        address="https://hooks.slack.com/services/T/B/X",
        blames_credentials=False,
    ),
]
