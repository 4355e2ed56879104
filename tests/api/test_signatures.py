"""Signatures, against what others sign: Standard Webhooks' own library, Twilio's documented
example, and certificates made here for SNS (its text is written out by hand from Amazon's page)."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

from streams.api import signatures

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def test_twilio_s_documented_example() -> None:
    # https://www.twilio.com/docs/usage/security: "Validating Signatures from Twilio"
    form = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+12349013030"),
        ("Digits", "1234"),
        ("From", "+12349013030"),
        ("To", "+18005551212"),
    ]
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    signature = "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    assert signatures.twilio_fits(["old", "12345"], url, reversed(form), signature)
    assert not signatures.twilio_fits(["12345"], url + "x", form, signature)
    assert not signatures.twilio_fits(["12345"], url, form[1:], signature)
    assert not signatures.twilio_fits(["12346"], url, form, signature)
    assert not signatures.twilio_fits([], url, form, signature)
    assert not signatures.twilio_fits(["12345"], url, form, "é" * 10)


def test_what_standard_webhooks_library_signs() -> None:
    body = '{"type":"receipt.seen"}'
    signed = Webhook(SECRET).sign("msg_1", NOW, body)
    stamp = str(int(NOW.timestamp()))

    def fits(**changes: Any) -> bool:
        values: dict[str, Any] = {
            "secrets": [SECRET],
            "webhook_id": "msg_1",
            "timestamp": stamp,
            "body": body.encode(),
            "signatures": signed,
            "now_ms": NOW_MS,
            "tolerance_ms": 300_000,
        }
        return signatures.webhook_fits(**{**values, **changes})

    assert fits()
    assert fits(secrets=["whsec_" + base64.b64encode(b"x" * 24).decode(), SECRET])
    assert fits(signatures=f"v1,AAAA v2,xx {signed}")
    assert not fits(webhook_id="msg_2")
    assert not fits(body=body.encode() + b" ")
    assert not fits(now_ms=NOW_MS + 300_001)
    assert not fits(now_ms=NOW_MS - 300_001)
    assert not fits(signatures=signed.replace("v1,", "v2,"))
    assert not fits(signatures="")
    assert not fits(timestamp="nan")
    assert not fits(secrets=[])


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


KEY = rsa.generate_private_key(65_537, 2_048)
PEM = certificate(KEY)


@pytest.mark.parametrize(
    ("version", "digest"),
    [("1", hashes.SHA1()), ("2", hashes.SHA256())],
)
def test_sns_signs_its_fields_in_their_order(version: str, digest: hashes.HashAlgorithm) -> None:
    message = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": "arn:aws:sns:eu-west-1:1:ses",
        "Subject": "s",
        "Message": "text",
        "Timestamp": "2026-03-01T12:00:00.000Z",
        "SignatureVersion": version,
    }
    text = (
        "Message\ntext\nMessageId\nm-1\nSubject\ns\nTimestamp\n2026-03-01T12:00:00.000Z\n"
        "TopicArn\narn:aws:sns:eu-west-1:1:ses\nType\nNotification\n"
    )
    signature = base64.b64encode(KEY.sign(text.encode(), padding.PKCS1v15(), digest)).decode()
    signed = {**message, "Signature": signature}
    assert signatures.sns_fits(signed, PEM)
    for name in ("Message", "MessageId", "Subject", "Timestamp", "TopicArn"):
        assert not signatures.sns_fits({**signed, name: "other"}, PEM)
    assert not signatures.sns_fits({**signed, "SignatureVersion": "3"}, PEM)
    assert not signatures.sns_fits({**signed, "Signature": "no base64!"}, PEM)
    assert not signatures.sns_fits(signed, certificate(rsa.generate_private_key(65_537, 2_048)))
    assert not signatures.sns_fits(signed, b"no certificate")


@pytest.mark.parametrize(
    ("url", "is_amazon"),
    [
        ("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab12.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-ab12.pem", True),
        ("http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab12.pem", False),
        ("https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-a.pem", False),
        ("https://evil.example/sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-a.pem", False),
        ("https://bucket.s3.amazonaws.com/SimpleNotificationService-a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem?x", False),
        ("https://sns.eu-west-1.amazonaws.com:444/SimpleNotificationService-a.pem", False),
        ("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem\n", False),
    ],
)
def test_certificates_come_from_amazon_s_sns_alone(url: str, is_amazon: bool) -> None:
    assert bool(signatures.SNS_CERTIFICATE.fullmatch(url)) is is_amazon
