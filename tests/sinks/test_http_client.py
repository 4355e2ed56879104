"""What pyreqwest's errors are taken to mean over HTTP/2: an upgrade that words them otherwise
fails here, before a refusal is taken for a doubt or, worse, a doubt for a refusal."""

from __future__ import annotations

import asyncio
import time
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


class Losing(HttpTransport):
    """A client that hands nothing over, but for what ``heard`` asks for."""

    heard = False

    async def _exchange(self, client: Client, request: HttpRequest) -> Response:
        if self.heard:
            return Response(200, {}, b"")
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")


async def test_a_request_that_the_client_loses_ends_all_the_same_and_several_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "LOST_MS", 50)
    transport = Losing("test", HttpSettings(request_ms_max=50, connect_ms_max=50), 1, http2=True)
    await transport.start()
    some = HttpRequest("http://127.0.0.1:1/x", {}, b"body")
    try:
        for _ in range(2):
            for _ in range(http_client.LOST_MAX - 1):  # the slot is free again
                reply = await transport.send(some)
                assert isinstance(reply, Failure)
                assert (reply.reason, reply.sent) == ("timeout", True)
            transport.heard = True
            assert isinstance(await transport.send(some), Response), "it counts from the beginning"
            transport.heard = False
        for _ in range(http_client.LOST_MAX - 1):
            await transport.send(some)
        with pytest.raises(http_client.ClientLost):
            await transport.send(some)
    finally:
        await transport.stop()


class Shy(Peer):
    """Takes one stream at a time until it has answered well once, as APNs does; counts offences."""

    offences = 0
    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).connections += 1
        self.open: set[int] = set()
        self.trusts = False
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.open.add(event.stream_id)
                if len(self.open) > 1 and not self.trusts:
                    type(self).offences += 1
            elif isinstance(event, h2.events.StreamEnded):
                asyncio.get_running_loop().call_later(0.02, self.reply, event.stream_id)
        self.transport.write(self.h2.data_to_send())

    def reply(self, stream: int) -> None:
        if self.transport.is_closing():
            return
        self.seen.append(stream)
        status = "403" if len(self.seen) <= 2 else "200"
        self.trusts = self.trusts or status == "200"
        self.open.discard(stream)
        self.h2.send_headers(stream, [(":status", status)], end_stream=True)
        self.transport.write(self.h2.data_to_send())


async def test_a_new_connection_carries_one_request_until_one_was_taken() -> None:
    Shy.offences = Shy.connections = 0
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Shy("", seen), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport("test", QUICK, 100, http2=True)
    await transport.start()
    some = HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body")
    replies = await asyncio.gather(*(transport.send(some) for _ in range(60)))
    await transport.stop()
    server.close()
    statuses = [reply.status for reply in replies if isinstance(reply, Response)]
    assert len(statuses) == 60
    assert statuses.count(403) == 2
    assert (Shy.offences, Shy.connections) == (0, 1)


async def test_who_waits_for_the_first_that_cannot_connect_was_not_sent_either() -> None:
    transport = HttpTransport("test", QUICK, 100, http2=True)
    await transport.start()
    some = HttpRequest("http://127.0.0.1:1/x", {}, b"body")
    replies = await asyncio.gather(*(transport.send(some) for _ in range(20)))
    await transport.stop()
    assert all(isinstance(reply, Failure) and not reply.sent for reply in replies)
    assert transport._connections == []


async def test_who_waits_for_a_first_that_is_not_answered_does_not_wait_again() -> None:
    async with peer("silence") as (port, seen):
        transport = HttpTransport("test", QUICK, 100, http2=True)
        await transport.start()
        some = HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body")
        began = time.monotonic()
        replies = await asyncio.gather(*(transport.send(some) for _ in range(20)))
        took_s = time.monotonic() - began
        await transport.stop()
    assert len(seen) == 1
    assert [reply.sent for reply in replies if isinstance(reply, Failure)].count(True) == 1
    assert all(isinstance(reply, Failure) and reply.reason == "timeout" for reply in replies)
    assert took_s < 2 * QUICK.request_ms_max / 1000


async def test_a_first_request_that_is_cancelled_lets_the_next_one_be_first() -> None:
    async with peer("ok") as (port, seen):
        transport = HttpTransport("test", QUICK, 100, http2=True)
        await transport.start()
        some = HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body")
        first = asyncio.create_task(transport.send(some))
        others = [asyncio.create_task(transport.send(some)) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()
        replies = await asyncio.gather(*others)
        assert all(isinstance(reply, Response) for reply in replies)
        assert len(seen) >= 5
        await transport.stop()


async def test_a_process_that_stood_still_gives_its_answers_the_time_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with peer("ok") as (port, _):
        transport = HttpTransport("test", QUICK, 10, http2=True)
        await transport.start()
        some = HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body")
        sending = asyncio.create_task(transport.send(some))
        await asyncio.sleep(0)
        hour_later = time.monotonic() + 3_600
        monkeypatch.setattr(time, "monotonic", lambda: hour_later)
        transport._look(asyncio.get_running_loop())
        assert isinstance(await sending, Response)
        await transport.stop()
