"""A TCP server that misbehaves on purpose, in the ways that networks and providers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Fault = Literal[
    "reset_before_request", "reset_after_request", "silent", "garbage", "half_answer", "ok"
]


class FaultServer:
    """Its port, and how many requests it has seen whole."""

    def __init__(self, fault: Fault, greeting: bytes = b"", end: bytes = b"\r\n\r\n") -> None:
        self.fault = fault
        self.port = 0
        self.requests = 0
        self._greeting = greeting
        self._end = end

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.fault == "reset_before_request":
                return
            await reader.readuntil(self._end)
            self.requests += 1
            await self._answer(reader, writer)
        writer.transport.abort() if self.fault.startswith("reset") else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "silent":
            await reader.read()  # until the client gives up
        elif self.fault == "garbage":
            writer.write(b"\x00\x01 this is no answer\r\n\r\n")
        elif self.fault == "half_answer":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        elif self.fault == "ok":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\n{}")
        await writer.drain()


@contextlib.asynccontextmanager
async def fault_server(fault: Fault) -> AsyncIterator[FaultServer]:
    """A running one."""
    faulty = FaultServer(fault)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    faulty.port = server.sockets[0].getsockname()[1]
    try:
        yield faulty
    finally:
        server.close()
