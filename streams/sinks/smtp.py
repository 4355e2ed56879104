"""E-mail through any SMTP server, SES included.

Sources, beside what they say:
RFC 5321 §4.2 (replies), RFC 3463 (enhanced codes), RFC 8058 (one-click unsubscribe),
https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html (throttling as 454)

Invariants: 4xx was not taken, 5xx never will be, a drop after the final dot is ambiguous; every
attempt carries the same Message-ID, which holds the delivery id; an address is given up only for
replies that say that the mailbox does not exist.
"""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Any

import dkim

from streams.core.model import Delivery
from streams.sinks import mime, unsubscribe
from streams.sinks.base import (
    Accepted,
    MailRequest,
    Outcome,
    Rejected,
    Response,
    Retry,
    Unregistered,
    excerpt,
)
from streams.sinks.settings import SmtpSettings
from streams.sinks.tracking import tracked
from streams.templates.rendered import Rendered

THROTTLED_RETRY_MS = 60_000
ADDRESS = re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,64}@[^\s@<>\"(),:;\[\]\\]{1,255}")
ENHANCED = re.compile(rb"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
SIGNED_HEADERS = (
    b"From", b"To", b"Subject", b"Date", b"Message-ID", b"MIME-Version", b"Content-Type",
    b"List-Unsubscribe", b"List-Unsubscribe-Post",
)  # fmt: skip

# RFC 3463 §3.2: the mailbox, not the message or the server.
NO_MAILBOX = {
    (1, 1): "no_such_mailbox",  # Bad destination mailbox address
    (1, 2): "no_such_domain",  # Bad destination system address
    (1, 3): "bad_address",  # Bad destination mailbox address syntax
    (1, 6): "mailbox_moved",  # Destination mailbox has moved, no forwarding address
    (1, 10): "null_mx",  # RFC 7505: the domain takes no mail
    (2, 1): "mailbox_disabled",  # Mailbox disabled, not accepting messages
}
CREDENTIALS = frozenset({530, 534, 535, 538})  # RFC 4954 §6


class Smtp:
    """The two pure functions."""

    def __init__(self, settings: SmtpSettings) -> None:
        self.settings = settings
        self._sender = parseaddr(settings.sender)[1]
        self._dkim_key = settings.private_key_pem.encode()

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> MailRequest | Outcome:
        """A whole message. The address is an addr-spec."""
        if not ADDRESS.fullmatch(delivery.address) or not delivery.address.isascii():
            return Unregistered("bad_address", "not an address that SMTP can carry")
        settings = self.settings
        identity = f"{delivery.delivery_id}.{delivery.epoch}@{settings.message_id_domain}"
        headers = [
            ("From", settings.sender),
            ("To", delivery.address),
            ("Subject", rendered.subject),
            ("Message-ID", f"<{identity}>"),
            ("X-Flowstate-Notification", delivery.notification_id),
            ("Auto-Submitted", "auto-generated"),  # RFC 3834: no out-of-office replies
        ]
        if delivery.category not in settings.unsubscribe_exempt:
            about = unsubscribe.Unsubscribe(delivery.recipient_id, delivery.category, "email")
            link = unsubscribe.link(settings.unsubscribe, about)
            if link is not None:
                headers.append(("List-Unsubscribe", f"<{link}>"))
                headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
        html = rendered.html
        if html is not None:
            html = tracked(html, settings.tracking, delivery, now_ms)
        try:
            content = mime.message(headers, rendered.body, html, identity, now_ms)
        except mime.HeaderRefused as refused:
            return Rejected("bad_header", str(refused))
        return MailRequest(self._sender, delivery.address, self._signed(content))

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        """RFC 5321: the first digit decides, RFC 3463 says what it is about."""
        detail = f"{reply.status} {excerpt(reply.body)}"
        if 200 <= reply.status < 300:
            return Accepted(excerpt(reply.body) or None)
        if reply.status in CREDENTIALS:
            return Retry("credentials_refused", None, "credentials", detail)
        if 400 <= reply.status < 500:
            if reply.status in (421, 454):  # closing; SES: "Throttling failure"
                return Retry("throttled", THROTTLED_RETRY_MS, "quota", detail)
            blame = "destination" if reply.status in (450, 452) else "provider"
            return Retry("deferred", None, blame, detail)  # type: ignore[arg-type]
        if 500 <= reply.status < 600:
            found = ENHANCED.search(reply.body)
            about = (int(found[2]), int(found[3])) if found else (0, 0)
            if about in NO_MAILBOX:
                return Unregistered(NO_MAILBOX[about], detail)
            if about == (2, 2):  # Mailbox full, permanently: the mailbox exists
                return Rejected("mailbox_full", detail)
            return Rejected("refused", detail)
        return Retry("unexpected_answer", None, "provider", detail)

    def _signed(self, content: bytes) -> bytes:
        settings = self.settings
        if not settings.dkim_selector:
            return content
        head = b"\r\n" + content.partition(b"\r\n\r\n")[0].lower()
        present = [name for name in SIGNED_HEADERS if b"\r\n" + name.lower() + b":" in head]
        signature = dkim.sign(
            content, settings.dkim_selector.encode(), settings.dkim_domain.encode(),
            self._dkim_key, canonicalize=(b"relaxed", b"relaxed"), include_headers=present,
        )  # fmt: skip
        return bytes(signature) + content


def check_dkim_key(pem: str) -> None:
    """Raises ``ValueError`` for a key that no mail could be signed with."""
    try:
        dkim.sign(b"From: a@example.com\r\n\r\n", b"s", b"example.com", pem.encode())
    except Exception as error:  # dkim has a dozen kinds, of no common base
        raise ValueError("it is no RSA key in PEM") from error
