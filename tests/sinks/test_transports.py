"""What each transport makes of a network that fails: before a request, after it, in silence."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from streams.sinks.base import Failure, HttpRequest, Reply, Response, Transport
from streams.sinks.guarded_client import GuardedTransport
from streams.sinks.http_client import HttpTransport
from streams.sinks.settings import HttpSettings
from tests.sinks.cases import ANYWHERE
from tests.sinks.fault_server import Fault, fault_server

QUICK = HttpSettings(request_ms_max=600, connect_ms_max=400)

MAKERS: dict[str, Callable[[], Transport]] = {
    "pyreqwest": lambda: HttpTransport("test", QUICK, 10),
    "guarded": lambda: GuardedTransport(QUICK, ANYWHERE, 10),
}
both = pytest.mark.parametrize("transport_name", MAKERS)


async def ask(transport_name: str, port: int) -> Reply:
    transport = MAKERS[transport_name]()
    await transport.start()
    try:
        request = HttpRequest(f"http://127.0.0.1:{port}/x", {"x": "y"}, b"body")
        return await transport.send(request)
    finally:
        await transport.stop()


@both
async def test_an_answer_comes_with_its_headers(transport_name: str) -> None:
    async with fault_server("ok") as server:
        reply = await ask(transport_name, server.port)
    assert reply == Response(200, {"retry-after": "7"}, b"{}")


@both
async def test_what_could_not_connect_was_not_sent(transport_name: str) -> None:
    async with fault_server("ok") as server:
        port = server.port
    reply = await ask(transport_name, port)
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent) == ("connect", False)


@both
@pytest.mark.parametrize("fault", ["reset_after_request", "garbage"])
async def test_what_was_sent_without_an_answer_is_in_doubt(
    transport_name: str, fault: Fault
) -> None:
    async with fault_server(fault) as server:
        reply = await ask(transport_name, server.port)
        assert server.requests == 1
    assert isinstance(reply, Failure)
    assert reply.sent


@both
async def test_half_an_answer_never_counts_as_not_sent(transport_name: str) -> None:
    async with fault_server("half_answer") as server:
        reply = await ask(transport_name, server.port)
    assert (isinstance(reply, Failure) and reply.sent) or isinstance(reply, Response)


@both
async def test_silence_ends_at_the_deadline_and_is_in_doubt(transport_name: str) -> None:
    async with fault_server("silent") as server:
        began = time.monotonic()
        reply = await ask(transport_name, server.port)
        took_s = time.monotonic() - began
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent) == ("timeout", True)
    assert 0.4 < took_s < 5


@both
async def test_a_connection_that_closes_at_once_is_never_taken_for_an_answer(
    transport_name: str,
) -> None:
    async with fault_server("reset_before_request") as server:
        reply = await ask(transport_name, server.port)
    assert isinstance(reply, Failure)


async def test_a_connection_that_misses_deadlines_is_replaced() -> None:
    quick = HttpSettings(request_ms_max=100, connect_ms_max=100, timeouts_to_replace=2)
    transport = HttpTransport("test", quick, 10)
    await transport.start()
    first = transport._client
    async with fault_server("silent") as server:
        request = HttpRequest(f"http://127.0.0.1:{server.port}/x", {}, b"")
        for _ in range(2):
            await transport.send(request)
    assert transport._client is not first
    async with fault_server("ok") as server:
        request = HttpRequest(f"http://127.0.0.1:{server.port}/x", {}, b"")
        assert isinstance(await transport.send(request), Response)
    await transport.stop()
