"""A local mail server: aiosmtpd takes messages and hands them to the recorder."""

from __future__ import annotations

import re

from aiosmtpd.smtp import SMTP, Envelope, Session

from streams.local.received import Recorder

MESSAGE_ID = re.compile(rb"(?im)^Message-ID:\s*<([0-9a-f]{32})\.\d+@")
NOTIFICATION = re.compile(rb"(?im)^X-Flowstate-Notification:\s*([0-9a-f]{32})\s*$")


class MailHandler:
    """aiosmtpd's hooks."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def handle_DATA(  # noqa: N802 (aiosmtpd's name)
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """One message; its reply is its acceptance."""
        content = envelope.content
        assert isinstance(content, bytes)
        head = content.partition(b"\r\n\r\n")[0]
        found, about = MESSAGE_ID.search(head), NOTIFICATION.search(head)
        delivery_id = found[1].decode() if found else ""
        if self._recorder.refuses("email", delivery_id):
            return "451 4.3.0 seeded fault"
        notification_id = about[1].decode() if about else ""
        address = envelope.rcpt_tos[0] if envelope.rcpt_tos else ""
        await self._recorder.record("email", delivery_id, notification_id, address, len(content))
        return f"250 2.0.0 queued as {delivery_id}"
