"""What pyreqwest's errors are taken to mean over HTTP/2: an upgrade that words them otherwise
fails here, before a refusal is taken for a doubt or, worse, a doubt for a refusal."""

from __future__ import annotations

import asyncio
import time

import pytest
from pyreqwest.client import Client, ClientBuilder

from streams.sinks import http_client
from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.http_client import HttpTransport
from streams.sinks.settings import HttpSettings
from tests.sinks.http2_peer import peer

QUICK = HttpSettings(request_ms_max=1_500, connect_ms_max=500)


class PriorKnowledge(HttpTransport):
    """Speaks HTTP/2 without TLS, as it does with TLS to a provider that prefers it."""

    def _builder(self) -> ClientBuilder:
        return super()._builder().http2_prior_knowledge()


async def ask(port: int) -> Reply:
    transport = PriorKnowledge("test", QUICK, 10)
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
    transport = Losing("test", HttpSettings(request_ms_max=50, connect_ms_max=50), 1)
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


async def test_a_process_that_stood_still_gives_its_answers_the_time_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with peer("ok") as (port, _):
        transport = PriorKnowledge("test", QUICK, 10)
        await transport.start()
        some = HttpRequest(f"http://127.0.0.1:{port}/x", {}, b"body")
        sending = asyncio.create_task(transport.send(some))
        await asyncio.sleep(0)
        hour_later = time.monotonic() + 3_600
        monkeypatch.setattr(time, "monotonic", lambda: hour_later)
        transport._look(asyncio.get_running_loop())
        assert isinstance(await sending, Response)
        await transport.stop()
