"""HTTP/2 as our own client speaks it: against h2, which refuses what is not HTTP/2, and against
peers that break off, say goodbye, refuse, are silent or talk nonsense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from streams.sinks import http2_connection, http2_frames
from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.http2_client import TRIES_MAX, Http2Transport
from streams.sinks.http2_connection import CREDIT_BYTES, Http2Connection
from streams.sinks.settings import HttpSettings
from tests.eventually import eventually
from tests.sinks.fault_server import fault_server
from tests.sinks.http2_peer import Exact, Shy, peer, serving

QUICK = HttpSettings(request_ms_max=1_500, connect_ms_max=500)


@asynccontextmanager
async def client(settings: HttpSettings = QUICK) -> AsyncIterator[Http2Transport]:
    transport = Http2Transport(settings)
    await transport.start()
    yield transport
    await transport.stop()


def to(port: int, body: bytes = b"body", **headers: str) -> HttpRequest:
    return HttpRequest(f"http://127.0.0.1:{port}/x", headers, body)


async def ask(port: int, settings: HttpSettings = QUICK) -> Reply:
    async with client(settings) as transport:
        return await transport.send(to(port))


def statuses(replies: list[Reply]) -> set[int]:
    return {reply.status if isinstance(reply, Response) else 0 for reply in replies}


# -------------------------------------------------------------------------------- what an answer is


async def test_an_answer_has_its_status_its_body_and_the_headers_that_are_wanted() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        headers = [(":status", "429"), ("retry-after", "7"), ("x-other", "no")]
        server.h2.send_headers(stream, [(":status", "103"), ("link", "</a>")])
        server.say(stream, headers, b'{"reason":"TooManyRequests"}')

    seen: list[bytes] = []
    broken: list[str] = []
    servers: list[Exact] = []

    def make() -> Exact:
        servers.append(Exact(answer, seen, broken))
        return servers[-1]

    async with serving(make) as port, client() as transport:
        reply = await transport.send(to(port, b"hello", authorization="bearer " + "x" * 300))
    assert reply == Response(429, {"retry-after": "7"}, b'{"reason":"TooManyRequests"}')
    assert (seen, broken) == ([b"hello"], [])
    assert servers[0].headers[1] == {
        ":method": "POST", ":scheme": "http", ":authority": f"127.0.0.1:{port}", ":path": "/x",
        "user-agent": "flowstate", "content-length": "5", "authorization": "bearer " + "x" * 300,
    }  # fmt: skip


async def test_answers_that_repeat_their_headers_are_read_each_for_itself() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        status = "200" if body == b"0" else "503"
        server.say(stream, [(":status", status), ("retry-after", "120"), ("server", "x")])

    async with exact(answer) as (port, _, _), client() as transport:
        replies = [await transport.send(to(port, str(n).encode())) for n in range(4)]
    assert replies[1:] == [Response(503, {"retry-after": "120"}, b"")] * 3


@pytest.mark.parametrize("name", ["200", "204", "500"])
async def test_headers_too_long_for_a_frame_are_put_together(name: str) -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        server.say(stream, [(":status", name), ("x-long", "y" * 40_000), ("retry-after", "3")])

    async with serving(lambda: Exact(answer, [], [])) as port:
        assert await ask(port) == Response(int(name), {"retry-after": "3"}, b"")


async def test_a_long_answer_is_kept_as_far_as_the_limit() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        server.say(stream, [(":status", "400")], b"z" * 60_000)

    short = HttpSettings(request_ms_max=1_500, answer_bytes_max=20_000)
    async with serving(lambda: Exact(answer, [], [])) as port:
        reply = await ask(port, short)
    assert isinstance(reply, Response)
    assert (reply.status, reply.body.strip(b"z")) == (400, b"")
    assert 20_000 <= len(reply.body) < 40_000


@pytest.mark.parametrize("value", ["a\r\nb: c", "\x00", "ключ"])
async def test_a_header_that_would_become_two_is_never_written(value: str) -> None:
    async with peer("ok") as (port, seen), client() as transport:
        reply = await transport.send(to(port, topic=value))
        assert isinstance(reply, Failure)
        assert (reply.reason, reply.sent, seen) == ("protocol", False, [])
        assert isinstance(await transport.send(to(port)), Response)


# ---------------------------------------------------------------- what no answer is taken to mean


@pytest.mark.parametrize("how", ["refused_stream", "goaway"])
async def test_what_the_peer_says_it_did_not_process_is_tried_again_and_was_not_sent(
    how: str,
) -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        if how == "refused_stream":
            server.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            server.h2.close_connection(0, last_stream_id=0)
            asyncio.get_running_loop().call_soon(server.transport.close)

    async with exact(answer) as (port, seen, _):
        reply = await ask(port)
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent) == ("reset", False)
    assert len(seen) == TRIES_MAX


@pytest.mark.parametrize("trouble", ["internal_error", "goaway_after_it", "abort"])
async def test_what_the_peer_may_have_processed_is_in_doubt_and_not_tried_again(
    trouble: str,
) -> None:
    async with peer(trouble) as (port, seen):
        reply = await ask(port)
        assert len(seen) == 1, "only what was never processed may be sent again"
    assert isinstance(reply, Failure)
    assert reply.sent


async def test_a_server_that_speaks_something_else_is_never_asked() -> None:
    async with fault_server("ok") as server:
        reply = await ask(server.port)
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent) == ("connect", False)


async def test_a_server_that_always_hangs_up_is_not_called_for_ever() -> None:
    calls = 0

    class HangsUp(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal calls
            calls += 1
            transport.write(http2_frames.settings_frame({}))  # type: ignore[attr-defined]
            transport.close()

    async with serving(HangsUp) as port, client() as transport:
        replies = await asyncio.gather(*(transport.send(to(port)) for _ in range(3)))
    assert all(isinstance(reply, Failure) for reply in replies)
    assert calls <= 3 * TRIES_MAX


async def test_silence_ends_at_the_deadline_and_only_what_was_written_is_in_doubt() -> None:
    one = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    quiet: list[bytes] = []

    def answer(server: Exact, stream: int, body: bytes) -> None:
        if body == b"first":
            server.say(stream, [(":status", "200")])

    async with serving(lambda: Exact(answer, quiet, [], one)) as port, client() as transport:
        await transport.send(to(port, b"first"))
        began = time.monotonic()
        replies = await asyncio.gather(*(transport.send(to(port)) for _ in range(4)))
        took_s = time.monotonic() - began
    assert [r.reason for r in replies if isinstance(r, Failure)] == ["timeout"] * 4
    assert [r.sent for r in replies if isinstance(r, Failure)].count(True) == len(quiet) - 1
    assert 1.4 < took_s < 5


async def test_a_peer_that_answers_no_ping_is_left() -> None:
    settings = HttpSettings(request_ms_max=30_000, ping_interval_ms=200)
    async with peer("silence") as (port, seen), client(settings) as transport:
        sending = asyncio.create_task(transport.send(to(port)))
        await eventually(lambda: seen)
        (connection,) = transport._open
        assert connection._transport is not None
        connection._transport.pause_reading()
        reply = await asyncio.wait_for(sending, 10)
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent) == ("reset", True)


async def test_a_connection_that_misses_deadlines_is_replaced_and_an_idle_one_closed() -> None:
    settings = HttpSettings(request_ms_max=100, timeouts_to_replace=2, idle_ms_max=100)
    async with peer("silence") as (port, seen), client(settings) as transport:
        for _ in range(4):
            await transport.send(to(port))
        assert seen == [1, 3, 1, 3]
        await eventually(lambda: all(one.is_closed for one in transport._open))


# ----------------------------------------------------------------------- many at once, and limits


@asynccontextmanager
async def exact(
    answer: Any, settings: dict[SettingCodes, int] | None = None
) -> AsyncIterator[tuple[int, list[bytes], list[str]]]:
    """Port of an ``Exact``, what it has seen, what the client did wrong."""
    seen: list[bytes] = []
    broken: list[str] = []
    async with serving(partial(Exact, answer, seen, broken, settings)) as port:
        yield port, seen, broken


async def test_no_more_streams_than_the_peer_allows() -> None:
    most = 0

    def answer(server: Exact, stream: int, body: bytes) -> None:
        nonlocal most
        most = max(most, server.h2.open_inbound_streams)
        asyncio.get_running_loop().call_later(0.005, later, server, stream)

    def later(server: Exact, stream: int) -> None:
        server.say(stream, [(":status", "200")])
        server.flush()

    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 7}
    async with exact(answer, limit) as (port, seen, broken), client() as transport:
        replies = await asyncio.gather(*(transport.send(to(port)) for _ in range(200)))
    assert statuses(replies) == {200}
    assert (len(seen), most, broken) == (200, 7, [])


async def test_the_peers_windows_are_kept_and_ours_are_opened_again() -> None:
    """h2 refuses a byte too many; an answer that gets no credit would stall."""

    def answer(server: Exact, stream: int, body: bytes) -> None:
        server.say(stream, [(":status", "400")], body)

    narrow = {SettingCodes.INITIAL_WINDOW_SIZE: 1_000}
    bodies = [bytes([n]) * 40_000 for n in range(2 * CREDIT_BYTES // 40_000 + 10)]
    async with exact(answer, narrow) as (port, seen, broken), client() as transport:
        replies = await asyncio.gather(*(transport.send(to(port, body)) for body in bodies))
    assert [r.body if isinstance(r, Response) else r for r in replies] == bodies
    assert (sorted(seen), broken) == (bodies, [])


async def test_small_requests_keep_the_window_of_the_connection_too() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        server.say(stream, [(":status", "200")])

    async with exact(answer) as (port, seen, broken), client() as transport:
        requests = (transport.send(to(port, b"n" * 4_096)) for _ in range(100))
        replies = await asyncio.gather(*requests)
    assert (statuses(replies), len(seen), broken) == ({200}, 100, [])


async def test_what_a_goodbye_has_taken_and_not_answered_is_in_doubt() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        server.h2.close_connection(0, last_stream_id=stream)
        asyncio.get_running_loop().call_soon(server.transport.close)

    async with exact(answer) as (port, seen, _):
        reply = await ask(port)
    assert isinstance(reply, Failure)
    assert (reply.reason, reply.sent, seen) == ("reset", True, [b"body"])


async def test_goodbyes_lose_nothing_and_repeat_nothing() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        if stream > 21:
            server.seen.pop()  # above the last that it takes
            return
        server.say(stream, [(":status", "200")])
        if stream == 21:
            server.h2.close_connection(0, last_stream_id=21)

    async with exact(answer) as (port, seen, broken), client() as transport:
        first = await transport.send(to(port, b"first"))
        bodies = [str(n).encode() for n in range(25)]
        replies = await asyncio.gather(*(transport.send(to(port, body)) for body in bodies))
    assert statuses([first, *replies]) == {200}
    assert sorted(seen) == sorted([b"first", *bodies])
    assert broken == []


async def test_a_connection_whose_numbers_end_is_replaced_without_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2_connection, "STREAMS_MAX", 9)

    def answer(server: Exact, stream: int, body: bytes) -> None:
        assert stream <= 11
        server.say(stream, [(":status", "200")])

    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    async with exact(answer, limit) as (port, seen, broken), client() as transport:
        bodies = [str(n).encode() for n in range(12)]
        replies = await asyncio.gather(*(transport.send(to(port, body)) for body in bodies))
    assert (statuses(replies), sorted(seen), broken) == ({200}, sorted(bodies), [])


async def test_a_stream_that_was_refused_once_is_sent_again() -> None:
    refused: list[int] = []

    def answer(server: Exact, stream: int, body: bytes) -> None:
        if stream in (3, 5) and len(refused) < 2:
            refused.append(stream)
            server.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            server.say(stream, [(":status", "200")])

    async with exact(answer) as (port, _, broken), client() as transport:
        replies = [await transport.send(to(port))]
        replies += await asyncio.gather(*(transport.send(to(port)) for _ in range(5)))
    assert (statuses(replies), refused, broken) == ({200}, [3, 5], [])


async def test_a_request_that_nobody_waits_for_frees_its_stream() -> None:
    def answer(server: Exact, stream: int, body: bytes) -> None:
        if body != b"slow":
            server.say(stream, [(":status", "200")])

    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with exact(answer, limit) as (port, seen, broken), client() as transport:
        await transport.send(to(port))
        slow = asyncio.create_task(transport.send(to(port, b"slow")))
        await eventually(lambda: b"slow" in seen)
        other = asyncio.create_task(transport.send(to(port, b"other")))
        await asyncio.sleep(0)
        slow.cancel()
        assert statuses([await other]) == {200}
    assert broken == []


async def test_a_new_connection_carries_one_request_until_one_was_taken() -> None:
    Shy.offences = Shy.connections = 0
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Shy("", seen), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = Http2Transport(QUICK)
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
    transport = Http2Transport(QUICK)
    await transport.start()
    some = HttpRequest("http://127.0.0.1:1/x", {}, b"body")
    replies = await asyncio.gather(*(transport.send(some) for _ in range(20)))
    await transport.stop()
    assert all(isinstance(reply, Failure) and not reply.sent for reply in replies)
    assert not transport._open


async def test_who_waits_for_a_first_that_is_not_answered_does_not_wait_again() -> None:
    async with peer("silence") as (port, seen):
        transport = Http2Transport(QUICK)
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
        transport = Http2Transport(QUICK)
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
    answers: list[tuple[Exact, int]] = []

    def answer(server: Exact, stream: int, body: bytes) -> None:
        answers.append((server, stream))

    async with exact(answer) as (port, _, _), client() as transport:
        sending = asyncio.create_task(transport.send(to(port)))
        await eventually(lambda: answers)
        (connection,) = transport._open
        hour_later = time.monotonic() + 3_600
        monkeypatch.setattr(time, "monotonic", lambda: hour_later)
        connection._look()
        ((server, stream),) = answers
        server.say(stream, [(":status", "200")])
        server.flush()
        assert statuses([await sending]) == {200}


# ------------------------------------------------------------------------------------- any bytes


class Sink:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


READY = http2_frames.settings_frame({})
frames = st.builds(
    http2_frames.frame,
    st.integers(0, 11), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5, 7, 9]),
    st.one_of(
        st.binary(max_size=40), st.sampled_from([b"\x88", b"\x8d", b"\x89", b"\x00\x00\x00\x00"])
    ),
)  # fmt: skip


@given(st.lists(st.one_of(frames, st.binary(max_size=30)), max_size=12), st.data())
def test_whatever_the_bytes_every_request_ends_once_and_pieces_make_no_difference(
    said: list[bytes], data: st.DataObject
) -> None:
    stream = READY + b"".join(said)
    cut = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    pieces = [stream[a:b] for a, b in zip([0, *cut], [*cut, len(stream)], strict=True)]

    async def replies(parts: list[bytes]) -> list[Reply]:
        connection = Http2Connection(QUICK, ("retry-after",))
        transport = Sink()
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(READY)
        deadline = time.monotonic() + 60
        sending = [
            asyncio.create_task(connection.exchange(b"\x83", b"body", deadline)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        for part in parts:
            if not transport.closed:
                connection.data_received(part)
        transport.closed = True
        connection.connection_lost(None)
        return list(await asyncio.gather(*sending))

    whole = asyncio.run(replies([stream]))
    assert all(isinstance(reply, Response | Failure) for reply in whole)
    assert asyncio.run(replies(pieces)) == whole
