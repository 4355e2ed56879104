"""A pool of SMTP connections over aiosmtplib; each carries one message at a time.

Which step failed decides what a failure means: before the message's final dot nothing was taken,
after it the answer alone can tell (RFC 5321 §4.2.5, §4.5.3.2.6).

Invariants: one message is on one connection, in one transaction, to one recipient, so that an
answer is about exactly one delivery; a connection is used again only after a clean reply; every
message ends within ``request_ms_max``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Literal

import aiosmtplib

from streams.sinks.base import Failure, MailRequest, Reply, Response
from streams.sinks.settings import SmtpSettings

GREETING = 220
Step = Literal["connect", "envelope", "data"]


class _Connection:
    """A connection with how often it was used."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.messages = 0


class SmtpTransport:
    """All connections to one relay."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.in_flight_max)
        self._idle: list[_Connection] = []
        self._context = ssl.create_default_context()
        if settings.http.ca_pem:
            self._context.load_verify_locations(cadata=settings.http.ca_pem)

    async def start(self) -> None:
        """Connections are opened when they are needed."""

    async def stop(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._quit(connection)

    async def send(self, request: MailRequest) -> Reply:
        async with self._slots:
            step: Step = "connect"
            connection: _Connection | None = None
            try:
                async with asyncio.timeout(self._settings.http.request_ms_max / 1000):
                    connection = await self._connection()
                    step = "envelope"
                    reply = await self._envelope(connection.client, request)
                    if reply is None:
                        step = "data"
                        code, text = await connection.client.data(request.message)
                        reply = Response(code, {}, text.encode())
            except aiosmtplib.SMTPResponseException as error:
                if error.code < 400:  # garbled, or a success where none can be
                    if connection is not None:
                        connection.client.close()
                    return Failure("protocol", sent=step == "data", detail="garbled reply")
                reply = Response(error.code, {}, str(error.message).encode())
            except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
                if connection is not None:
                    connection.client.close()
                return _failure(step, error)
            except asyncio.CancelledError:
                if connection is not None:
                    connection.client.close()
                raise
            if connection is not None:
                await self._give_back(connection, reply)
            return reply

    async def _envelope(self, client: aiosmtplib.SMTP, request: MailRequest) -> Response | None:
        """MAIL and RCPT; the reply that refused one of them, or ``None``."""
        code, text = await client.execute_command(b"MAIL", f"FROM:<{request.sender}>".encode())
        if code == 250:
            code, text = await client.execute_command(b"RCPT", f"TO:<{request.recipient}>".encode())
        return None if 200 <= code < 300 else Response(code, {}, text.encode())

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected:
                return connection
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._context if settings.security != "none" else None,
            username=settings.username or None,
            password=settings.password or None,
            timeout=settings.http.request_ms_max / 1000,
        )
        await client.connect(timeout=settings.http.connect_ms_max / 1000)
        await client.ehlo()
        return _Connection(client)

    async def _give_back(self, connection: _Connection, reply: Response) -> None:
        connection.messages += 1
        if reply.status == 421 or not connection.client.is_connected:
            connection.client.close()
        elif connection.messages >= self._settings.messages_per_connection_max:
            await self._quit(connection)
        elif reply.status >= 300 and not await self._reset(connection):
            connection.client.close()
        else:
            self._idle.append(connection)

    async def _reset(self, connection: _Connection) -> bool:
        """Ends a transaction that was refused half way."""
        try:
            code, _ = await connection.client.execute_command(b"RSET")
        except (aiosmtplib.SMTPException, OSError):
            return False
        return code == 250

    async def _quit(self, connection: _Connection) -> None:
        try:
            await connection.client.quit(timeout=1)
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            connection.client.close()


def _failure(step: Step, error: BaseException) -> Failure:
    detail = type(error).__name__
    if step == "data":
        timed_out = isinstance(error, TimeoutError)
        return Failure("timeout" if timed_out else "reset", sent=True, detail=detail)
    return Failure("connect", sent=False, detail=detail)
