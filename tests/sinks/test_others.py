"""Particulars of SMS, mail, webhooks, Web Push and Slack, against others' implementations."""

from __future__ import annotations

import base64
import time
from urllib.parse import parse_qs

import dkim
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from standardwebhooks.webhooks import Webhook as TheirWebhook

from streams.sinks.apns import load_key
from streams.sinks.base import (
    Ambiguous,
    HttpRequest,
    MailRequest,
    Rejected,
    Response,
    Retry,
    Unregistered,
)
from streams.sinks.numbers import e164
from streams.sinks.settings import (
    SlackSettings,
    SmtpSettings,
    TwilioSettings,
    UnsubscribeSettings,
    VonageSettings,
    WebhookSettings,
    WebPushSettings,
)
from streams.sinks.slack import Slack
from streams.sinks.smtp import Smtp
from streams.sinks.twilio import Twilio
from streams.sinks.vonage import Vonage
from streams.sinks.webhook import Webhook, secret_key
from streams.sinks.webpush import VapidTokens, WebPush, origin_of
from streams.templates.rendered import Rendered
from streams.templates.segments import segments
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS, RENDERED, SECRET, browser, json_reply, p256_pem, rsa_pem


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("+351 912 345 678", "+351912345678"),
        ("00351912345678", "+351912345678"),
        ("+1 (415) 555-2671", "+14155552671"),
        ("912345678", None),
        ("+1", None),
        ("someone", None),
        ("", None),
    ],
)
def test_numbers_have_a_country_or_are_none(given: str, number: str | None) -> None:
    assert e164(given) == number


def test_twilio_keeps_to_the_segment_ceiling_and_the_validity() -> None:
    sink = Twilio(TwilioSettings(sender="MG1", segments_max_by_category={"message": 1}))
    rendered = Rendered("t", "\u0444" * 500, "s")
    request = sink.build_request(
        delivery(1, "sms", expires_at_ms=NOW_MS + 90_000), rendered, None, NOW_MS
    )
    assert isinstance(request, HttpRequest)
    form = parse_qs(request.body.decode())
    assert segments(form["Body"][0]).count == 1
    assert form["ValidityPeriod"] == ["90"]
    assert form["MessagingServiceSid"] == ["MG1"]
    late = sink.build_request(delivery(1, "sms", expires_at_ms=1), rendered, None, NOW_MS)
    assert isinstance(late, HttpRequest)
    assert parse_qs(late.body.decode())["ValidityPeriod"] == ["1"]


def test_an_opt_out_that_twilio_knows_is_one() -> None:
    outcome = Twilio(TwilioSettings()).classify(
        delivery(1, "sms"), json_reply(400, {"code": 21610}), NOW_MS
    )
    assert isinstance(outcome, Rejected)
    assert outcome.unsubscribed == "channel:sms"


def test_vonage_is_accepted_whole_or_in_doubt() -> None:
    sink = Vonage(VonageSettings())
    parts = [{"status": "0", "message-id": "1"}, {"status": "1"}]
    assert isinstance(
        sink.classify(delivery(1, "sms"), json_reply(200, {"messages": parts}), NOW_MS), Ambiguous
    )
    throttled = json_reply(200, {"messages": [{"status": "1"}]})
    outcome = sink.classify(delivery(1, "sms"), throttled, NOW_MS)
    assert isinstance(outcome, Retry)
    assert outcome.blame == "quota"
    assert isinstance(
        sink.classify(delivery(1, "sms"), Response(200, {}, b"<html>"), NOW_MS), Ambiguous
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [("1000", Retry), ("1050", Unregistered), ("6", Rejected), ("9", Retry), ("77", Retry)],
)
def test_vonage_statuses(status: str, kind: type) -> None:
    reply = json_reply(200, {"messages": [{"status": status}]})
    outcome = Vonage(VonageSettings()).classify(delivery(1, "sms"), reply, NOW_MS)
    assert isinstance(outcome, kind)


def test_mail_has_one_click_unsubscribe_covered_by_dkim() -> None:
    settings = SmtpSettings(
        dkim_selector="s1", dkim_domain="example.com", private_key_pem=rsa_pem(),
        unsubscribe=UnsubscribeSettings("https://example.com", ("secret",)),
        unsubscribe_exempt=("security",),
    )  # fmt: skip
    sink = Smtp(settings)
    request = sink.build_request(delivery(1, "email"), RENDERED, None, NOW_MS)
    assert isinstance(request, MailRequest)
    assert b"List-Unsubscribe: <https://example.com/u/" in request.message.replace(b"\r\n ", b" ")
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in request.message
    signature = request.message.partition(b"\r\nFrom:")[0].replace(b"\r\n", b"").replace(b" ", b"")
    assert b"list-unsubscribe:list-unsubscribe-post" in signature.lower()
    assert dkim.verify(request.message, dnsfunc=lambda *_, **__: _dkim_record())
    exempt = sink.build_request(delivery(1, "email", category="security"), RENDERED, None, NOW_MS)
    assert isinstance(exempt, MailRequest)
    assert b"List-Unsubscribe" not in exempt.message


def _dkim_record() -> bytes:
    key = serialization.load_pem_private_key(rsa_pem().encode(), None).public_key()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (550, b"5.1.1 no such user", Unregistered),
        (552, b"5.2.2 mailbox full", Rejected),
        (554, b"5.7.1 spam", Rejected),
        (450, b"4.2.0 greylisted", Retry),
        (421, b"4.7.0 closing", Retry),
    ],
)
def test_mail_replies(code: int, text: bytes, kind: type) -> None:
    reply = Response(code, {}, text)
    assert isinstance(Smtp(SmtpSettings()).classify(delivery(1, "email"), reply, NOW_MS), kind)


@pytest.mark.parametrize(
    "address", ["", "x", "a@b@c", "a b@c", "<a@b>", "a@b\r\nRCPT TO:<x@y>", "\u00e4@b.c"]
)
def test_an_address_that_is_none_never_becomes_a_command(address: str) -> None:
    outcome = Smtp(SmtpSettings()).build_request(
        delivery(1, "email", address=address), RENDERED, None, NOW_MS
    )
    assert isinstance(outcome, Unregistered)


def test_webhooks_verify_with_the_standard_s_own_library_under_both_secrets() -> None:
    older = "whsec_" + base64.b64encode(b"o" * 24).decode()
    sink = Webhook(WebhookSettings(secrets=(SECRET, older)))
    some = delivery(1, "webhook", address="https://example.com/")
    now_ms = time.time_ns() // 1_000_000
    request = sink.build_request(some, RENDERED, None, now_ms)
    assert isinstance(request, HttpRequest)
    for secret in (SECRET, older):
        content = TheirWebhook(secret).verify(request.body, request.headers)
        assert content["data"]["delivery_id"] == some.delivery_id
    again = sink.build_request(some, RENDERED, None, now_ms + 5_000)
    assert isinstance(again, HttpRequest)
    assert again.headers["webhook-id"] == request.headers["webhook-id"]
    assert again.headers["webhook-timestamp"] != request.headers["webhook-timestamp"]
    assert again.body == request.body


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_" + "YQ==" * 1])
def test_a_secret_of_the_wrong_size_is_refused(secret: str) -> None:
    with pytest.raises(ValueError):
        secret_key(secret)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://push.example.com/x", "https://push.example.com"),
        ("https://push.example.com:443/x", "https://push.example.com"),
        ("https://push.example.com:8443/x", "https://push.example.com:8443"),
        ("https://[2001:db8::1]:444/x", "https://[2001:db8::1]:444"),
    ],
)
def test_the_audience_is_the_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin


async def test_vapid_tokens_are_one_per_origin_and_live_less_than_a_day() -> None:
    tokens = VapidTokens(WebPushSettings(private_key_pem=p256_pem()))
    at = delivery(1, "webpush", address="https://a.example/1")
    header = str(await tokens.current(at, NOW_MS))
    assert await tokens.current(at, NOW_MS + 60_000) == header
    token = header.removeprefix("vapid t=").partition(",")[0]
    key = load_key(p256_pem()).public_key()
    claims = jwt.decode(
        token, key, algorithms=["ES256"], audience="https://a.example",
        options={"verify_exp": False},
    )  # fmt: skip
    assert 0 < claims["exp"] - NOW_MS // 1000 <= 86_400
    elsewhere = delivery(1, "webpush", address="https://b.example/1")
    assert await tokens.current(elsewhere, NOW_MS) != header


def test_web_push_headers_and_keys() -> None:
    sink = WebPush(WebPushSettings(private_key_pem=p256_pem()))
    some = delivery(
        1, "webpush", address="https://a.example/1", attributes=browser()[1],
        collapse_key="k" * 100, expires_at_ms=NOW_MS + 5_000,
    )  # fmt: skip
    request = sink.build_request(some, RENDERED, "vapid", NOW_MS)
    assert isinstance(request, HttpRequest)
    assert request.headers["ttl"] == "5"
    assert len(request.headers["topic"]) == 32
    bad = sink.build_request(
        msgspec.structs.replace(some, attributes={"p256dh": "AA", "auth": "?"}),
        RENDERED, "vapid", NOW_MS,
    )  # fmt: skip
    assert isinstance(bad, Rejected)


def test_slack_calls_slack_alone_and_escapes() -> None:
    sink = Slack(SlackSettings())
    elsewhere = delivery(1, "chat", address="https://evil.example/services/x")
    assert isinstance(sink.build_request(elsewhere, RENDERED, None, NOW_MS), Rejected)
    there = delivery(1, "chat", address="https://hooks.slack.com/services/x")
    request = sink.build_request(there, Rendered("<!channel>", "&", "s"), None, NOW_MS)
    assert isinstance(request, HttpRequest)
    assert b"<!channel>" not in request.body
