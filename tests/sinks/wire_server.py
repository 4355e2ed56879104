"""One server for every sink's dialect (HTTP/1.1, HTTP/2, SMTP) that does as it is told.

It sees a request whole before it answers, resets or keeps silent, so a test knows on which side of
"the request was written" it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import h2.config
import h2.connection
import h2.events
import msgspec

from streams.sinks.base import Response

Dialect = Literal["http1", "http2", "smtp"]
SLOW_SECONDS = 0.2


class Behaviour(msgspec.Struct, frozen=True):
    """What to do with a request."""

    answer: Response | None = None
    """``None``: none."""
    before: Literal["read", "reset"] = "read"
    """``reset``: the connection is cut before anything is read."""
    then: Literal["answer", "reset", "silence", "garbage"] = "answer"
    slow: bool = False


class WireServer:
    """Its port, and how many requests it has seen whole."""

    def __init__(self, dialect: Dialect, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.dialect = dialect
        self.port = 0
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.behaviour.before == "reset":
                writer.transport.abort()
                return
            talk = {"http1": self._http1, "http2": self._http2, "smtp": self._smtp}[self.dialect]
            await talk(reader, writer)
        writer.close()

    async def _may_answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Counts a whole request and misbehaves; True when it is to be answered."""
        self.requests += 1
        if self.behaviour.slow:
            await asyncio.sleep(SLOW_SECONDS)
        if self.behaviour.then == "answer":
            return True
        if self.behaviour.then == "silence":
            await reader.read()  # until the client gives up
        elif self.behaviour.then == "garbage":
            writer.write(b"\x00\x01 this is no answer\r\n\r\n")
            await writer.drain()
        writer.transport.abort() if self.behaviour.then == "reset" else writer.close()
        return False

    async def _http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(
                int(line.partition(":")[2])
                for line in head.split("\r\n")
                if line.startswith("content-length:")
            )
            await reader.readexactly(length)
            if not await self._may_answer(reader, writer):
                return
            answer = self.behaviour.answer
            assert answer is not None
            lines = [f"HTTP/1.1 {answer.status} X"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            if answer.status != 204:
                lines.append(f"content-length: {len(answer.body)}")
            writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
            await writer.drain()

    async def _http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if not isinstance(event, h2.events.StreamEnded):
                    continue
                if not await self._may_answer(reader, writer):
                    return
                answer = self.behaviour.answer
                assert answer is not None
                headers = [(":status", str(answer.status)), *answer.headers.items()]
                connection.send_headers(event.stream_id, headers, end_stream=not answer.body)
                if answer.body:
                    connection.send_data(event.stream_id, answer.body, end_stream=True)
            writer.write(connection.data_to_send())
            await writer.drain()

    async def _smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := (await reader.readline()).upper():
            reply = b"250 ok"
            if line.startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                if not await self._may_answer(reader, writer):
                    return
                answer = self.behaviour.answer
                assert answer is not None
                reply = f"{answer.status} ".encode() + answer.body
            writer.write((b"221 bye" if line.startswith(b"QUIT") else reply) + b"\r\n")
            await writer.drain()


@contextlib.asynccontextmanager
async def wire_server(dialect: Dialect, behaviour: Behaviour) -> AsyncIterator[WireServer]:
    """A running one."""
    made = WireServer(dialect, behaviour)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
