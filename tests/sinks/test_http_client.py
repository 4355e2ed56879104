"""What pyreqwest's errors are taken to mean over HTTP/2: an upgrade that words them otherwise
fails here, before a refusal is taken for a doubt or, worse, a doubt for a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from pyreqwest.client import Client

from streams.sinks import http_client
from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.http_client import HttpTransport
from streams.sinks.settings import HttpSettings

QUICK = HttpSettings(request_ms_max=1_500, connect_ms_max=500)


class Peer(asyncio.Protocol):
    """An HTTP/2 server (without TLS) that misbehaves as ``trouble`` says."""

    def __init__(self, trouble: str, seen: list[int]) -> None:
        self.trouble = trouble
        self.seen = seen
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.h2.initiate_connection()
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                self.seen.append(event.stream_id)
                self.answer(event.stream_id)
        self.transport.write(self.h2.data_to_send())
        if self.trouble != "ok" and self.trouble.startswith("goaway") and self.seen:
            self.transport.close()

    def answer(self, stream: int) -> None:
        if self.trouble == "ok":
            self.h2.send_headers(stream, [(":status", "200")], end_stream=True)
        elif self.trouble == "refused_stream":
            self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif self.trouble == "internal_error":
            self.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif self.trouble == "goaway_before_it":
            self.h2.close_connection(0, last_stream_id=0)
        elif self.trouble == "goaway_after_it":
            self.h2.close_connection(0, last_stream_id=stream)
        elif self.trouble == "abort":
            self.transport.abort()


@asynccontextmanager
async def peer(trouble: str) -> AsyncIterator[tuple[int, list[int]]]:
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Peer, trouble, seen), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def ask(port: int) -> Reply:
    transport = HttpTransport("test", QUICK, 10, http2=True)
    await transport.start()
    try:
        return await transport.send(HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body"))
    finally:
        await transport.stop()


async def test_an_answer() -> None:
    async with peer("ok") as (port, seen):
        assert isinstance(await ask(port), Response)
        assert len(seen) == 1


@pytest.mark.parametrize("trouble", ["refused_stream", "goaway_before_it"])
async def test_what_the_peer_says_it_did_not_process_was_not_sent(trouble: str) -> None:
    async with peer(trouble) as (port, _):
        replies = [await ask(port) for _ in range(5)]
    assert all(isinstance(reply, Failure) for reply in replies)
    # On a busy machine the client may notice the closed connection before the reason for it, and
    # call that a broken pipe: a doubt, which is the safe side.
    assert any(isinstance(reply, Failure) and not reply.sent for reply in replies)


@pytest.mark.parametrize("trouble", ["internal_error", "goaway_after_it", "abort"])
async def test_what_the_peer_may_have_processed_is_in_doubt_and_not_tried_again(
    trouble: str,
) -> None:
    async with peer(trouble) as (port, seen):
        reply = await ask(port)
        assert len(seen) == 1, "only what was never processed may be sent again"
    assert isinstance(reply, Failure)
    assert reply.sent


async def test_a_request_that_the_client_loses_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Losing(HttpTransport):
        async def _exchange(self, client: Client, request: HttpRequest) -> Response:
            await asyncio.Event().wait()
            raise AssertionError("nothing sets it")

    monkeypatch.setattr(http_client, "LOST_MS", 50)
    transport = Losing("test", HttpSettings(request_ms_max=50, connect_ms_max=50), 1, http2=True)
    await transport.start()
    try:
        for _ in range(2):  # the slot is free again
            reply = await transport.send(HttpRequest("http://127.0.0.1:1/x", {}, b"body"))
            assert isinstance(reply, Failure)
            assert (reply.reason, reply.sent) == ("timeout", True)
    finally:
        await transport.stop()
