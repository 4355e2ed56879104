"""SMTP: which step failed decides whether a message is in doubt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiosmtpd.smtp import SMTP

from streams.sinks.base import Failure, MailRequest, Response
from streams.sinks.settings import HttpSettings, SmtpSettings
from streams.sinks.smtp_client import SmtpTransport

MESSAGE = MailRequest("a@example.com", "b@example.com", b"Subject: x\r\n\r\n.dot\r\nbody\r\n")
QUICK = HttpSettings(request_ms_max=1_000, connect_ms_max=700)


USUAL: dict[str, str | None] = {
    "EHLO": "250 ok",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go",
    ".": "250 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


class Script:
    """A server that answers each command from a table; ``None`` drops the connection."""

    def __init__(self, answers: dict[str, str | None]) -> None:
        self.answers = dict(USUAL) | answers
        self.connections = 0
        self.messages = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"220 ready\r\n")
            while line := (await reader.readline()).decode().strip():
                command = line.split()[0].upper()
                if command == "DATA" and self.answers["DATA"] == "354 go":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    self.messages += 1
                    command = "."
                answer = self.answers[command]
                if answer is None:
                    break
                writer.write(answer.encode() + b"\r\n" if answer != "silence" else b"")
        writer.close()


@asynccontextmanager
async def scripted(**answers: str | None) -> AsyncIterator[tuple[Script, SmtpTransport]]:
    script = Script({name.replace("dot", "."): answer for name, answer in answers.items()})
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = SmtpSettings(host="127.0.0.1", port=port, security="none", http=QUICK)
    transport = SmtpTransport(settings)
    try:
        yield script, transport
    finally:
        await transport.stop()
        server.close()


async def test_an_acceptance_and_one_connection_for_several_messages() -> None:
    async with scripted() as (script, transport):
        for _ in range(3):
            assert await transport.send(MESSAGE) == Response(250, {}, b"taken")
        assert (script.connections, script.messages) == (1, 3)


@pytest.mark.parametrize(
    ("answers", "status"),
    [({"MAIL": "421 busy"}, 421), ({"RCPT": "550 5.1.1 none"}, 550), ({"DATA": "451 no"}, 451),
     ({"dot": "554 spam"}, 554)],
)  # fmt: skip
async def test_a_refusal_at_any_step_is_an_answer(answers: dict[str, str], status: int) -> None:
    async with scripted(**answers) as (_, transport):
        reply = await transport.send(MESSAGE)
    assert isinstance(reply, Response)
    assert reply.status == status


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT"])
async def test_a_drop_before_the_message_means_it_was_not_sent(step: str) -> None:
    async with scripted(**{step: None}) as (_, transport):
        reply = await transport.send(MESSAGE)
    assert isinstance(reply, Failure)
    assert not reply.sent


@pytest.mark.parametrize("after_the_dot", [None, "silence", "what?"])
async def test_after_the_final_dot_only_an_answer_settles_it(after_the_dot: str | None) -> None:
    async with scripted(dot=after_the_dot) as (script, transport):
        reply = await transport.send(MESSAGE)
        assert script.messages == 1
    assert isinstance(reply, Failure)
    assert reply.sent


async def test_a_refused_message_does_not_spoil_the_next_one() -> None:
    async with scripted(RCPT="550 5.1.1 none") as (script, transport):
        await transport.send(MESSAGE)
        script.answers["RCPT"] = "250 ok"
        assert isinstance(await transport.send(MESSAGE), Response)
        assert script.messages == 1


async def test_aiosmtpd_receives_the_very_bytes() -> None:
    received: list[bytes] = []

    class Handler:
        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
            received.append(envelope.content)  # type: ignore[attr-defined]
            return "250 ok"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = SmtpTransport(SmtpSettings(host="127.0.0.1", port=port, security="none"))
    assert isinstance(await transport.send(MESSAGE), Response)
    await transport.stop()
    server.close()
    assert received == [MESSAGE.message]
