"""Who sent a callback: the signatures of Twilio, Amazon SNS and Standard Webhooks. Pure.

Sources
- Twilio: https://www.twilio.com/docs/usage/security ("Validating Signatures from Twilio")
- SNS: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
- Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks (spec)

Invariants: comparison takes constant time; a certificate is only ever named by a URL of Amazon's
own SNS hosts; nothing is fetched here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SNS_CERTIFICATE = re.compile(
    r"https://sns\.[a-z0-9-]{1,32}\.amazonaws\.com(\.cn)?"
    r"/SimpleNotificationService-[0-9a-zA-Z]{1,64}\.pem"
)
SNS_CONFIRMATION = re.compile(
    r"https://sns\.[a-z0-9-]{1,32}\.amazonaws\.com(\.cn)?/\?Action=ConfirmSubscription&[!-~]{1,2000}"
)
_SNS_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
    "UnsubscribeConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
SIGNATURES_MAX = 10


def twilio_fits(
    tokens: Iterable[str], url: str, form: Iterable[tuple[str, str]], signature: str
) -> bool:
    """HMAC-SHA1 over the exact URL followed by the sorted parameters, names and values."""
    # A name that comes more than once: each different value once, sorted, as Twilio's helpers do.
    pairs = sorted(set(form))
    signed = url + "".join(name + value for name, value in pairs)
    shown = signature.encode("utf-8", "replace")
    fits = [
        hmac.compare_digest(
            base64.b64encode(
                hmac.new(token.encode(), signed.encode("utf-8", "replace"), hashlib.sha1).digest()
            ),
            shown,
        )
        for token in tokens
    ]
    return True in fits


def sns_signed_text(message: Mapping[str, Any]) -> bytes | None:
    """What SNS signed; ``None`` for a type that it does not send."""
    names = _SNS_FIELDS.get(str(message.get("Type")))
    if names is None:
        return None
    lines = []
    for name in names:
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            return None
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode("utf-8", "replace")


def sns_fits(message: Mapping[str, Any], certificate_pem: bytes) -> bool:
    """RSA over the signed text, SHA-1 for version 1 and SHA-256 for version 2."""
    signed = sns_signed_text(message)
    digest = {"1": hashes.SHA1(), "2": hashes.SHA256()}.get(str(message.get("SignatureVersion")))  # noqa: S303
    if signed is None or digest is None:
        return False
    try:
        key = x509.load_pem_x509_certificate(certificate_pem).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        signature = base64.b64decode(str(message.get("Signature")), validate=True)
        key.verify(signature, signed, padding.PKCS1v15(), digest)
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    return True


def webhook_fits(
    secrets: Iterable[str],
    webhook_id: str,
    timestamp: str,
    body: bytes,
    signatures: str,
    now_ms: int,
    tolerance_ms: int,
) -> bool:
    """Standard Webhooks: any listed ``v1`` signature by any secret, within the tolerance."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12 or not webhook_id:
        return False
    if abs(int(timestamp) * 1000 - now_ms) > tolerance_ms:
        return False
    signed = f"{webhook_id}.{timestamp}.".encode("utf-8", "replace") + body
    shown = [
        value.encode("utf-8", "replace")
        for version, _, value in (one.partition(",") for one in signatures.split()[:SIGNATURES_MAX])
        if version == "v1"
    ]
    fits = [
        hmac.compare_digest(
            base64.b64encode(hmac.new(_secret_bytes(secret), signed, hashlib.sha256).digest()), one
        )
        for secret in secrets
        for one in shown
    ]
    return True in fits


def _secret_bytes(secret: str) -> bytes:
    """``whsec_`` and base64."""
    return base64.b64decode(secret.removeprefix("whsec_"))
