"""One HTTP/2 connection of a client, on the event loop: many requests at once, each one future.

Written for this because every request through a library costs more than the rest of a push: the
state machine in Python (h2) 124 us, the fastest client with a thread of its own 37 us alone and 90
beside an event loop that is busy (docs/decisions/0005-the-http-client.md). A push is small and its
answer smaller: frames are written by hand, all of one turn of the loop in one write, and what an
answer says beyond its status is only read when it is not 200.

What became of a request is never guessed::

    answered             its stream has ended                     -> Response
    not processed        REFUSED_STREAM; above a GOAWAY's last    -> Failure("reset", sent=False)
    never written        the connection went while it waited      -> Failure("reset", sent=False)
    in doubt             the stream or the connection broke       -> Failure("reset", sent=True)
    no answer in time    of the deadline                          -> Failure("timeout", sent=...)

Invariants: a request ends exactly once; nothing is sent before the peer's SETTINGS; no more streams
are open than it allows and no more is sent than its windows allow; credit is always given back; an
answer is kept up to ``answer_bytes_max``; after GOAWAY no stream is opened.
Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from streams.sinks import http2_frames as h2
from streams.sinks.base import Failure, Reply, Response
from streams.sinks.settings import HttpSettings

CREDIT_BYTES = 1 << 20
"""How much of all answers the peer may send before it hears from us; given back by the half."""
LOOKS_PER_REQUEST = 8
LOOK_SECONDS_MAX = 0.25
"""How often it is looked for what has become too late: an eighth of a deadline, and so often."""
STOOD_STILL_SECONDS = 3.0
STREAMS_MAX = 1 << 29
"""A connection that has carried so many is replaced long before its numbers end."""


class _Stream:
    """One request."""

    __slots__ = (
        "block",
        "body",
        "data",
        "deadline",
        "done",
        "headers",
        "number",
        "status",
        "window",
    )

    def __init__(
        self, block: bytes, body: bytes, deadline: float, done: asyncio.Future[Reply]
    ) -> None:
        self.block = block
        self.body = body
        """What is still to be sent of it."""
        self.deadline = deadline
        self.done = done
        self.number = 0
        self.window = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.data = b""


class Http2Connection(asyncio.Protocol):
    """From its making until ``is_open`` is false for ever."""

    def __init__(self, settings: HttpSettings, wanted: Sequence[str]) -> None:
        self._settings = settings
        self._wanted = tuple(wanted)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the peer has said that it speaks HTTP/2, and how; nothing is sent before."""
        self.is_open = False
        """Whether requests may be begun on it."""
        self.is_warm = False
        """A request was answered by a peer that knows us, so others may go beside it."""
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[_Stream] = deque()
        """For the peer's windows or its limit of streams, in order."""
        self._next = 1
        self._streams_max = h2.STREAM_MAX
        self._window = h2.WINDOW_BYTES
        self._stream_window = h2.WINDOW_BYTES
        self._frame_bytes = h2.FRAME_BYTES
        self._paused = False
        self._out: list[bytes] = []
        self._rest = b""
        self._headers_of: tuple[int, int, bytes] | None = None
        """(stream, flags, block so far) while CONTINUATION frames are to come."""
        self._taken = 0
        """Of the credit: bytes of answers since it was last given back."""
        self._timeouts = 0
        """Deadlines missed in a row."""
        self._heard_at = self._used_at = self._looked_at = time.monotonic()
        self._pinged_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nothing is left of it."""
        return self._transport is None

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        return len(self._streams) + len(self._waiting)

    async def exchange(self, block: bytes, body: bytes, deadline: float) -> Reply:
        """One request; ``deadline`` in ``time.monotonic()``."""
        done: asyncio.Future[Reply] = self._loop.create_future()
        stream = _Stream(block, body, deadline, done)
        if not self.is_open:
            return _not_sent("the connection went before it was written")
        if self._waiting or not self._has_room(stream):
            self._waiting.append(stream)
        else:
            self._begin(stream)
        try:
            return await done
        except asyncio.CancelledError:
            self._forget(stream)
            raise

    def leave(self) -> None:
        """Begins nothing more and closes when what is under way has ended."""
        self.is_open = False
        while self._waiting:
            self._end(self._waiting.popleft(), _not_sent("the connection is going"))
        if not self._streams:
            self.close()

    def close(self) -> None:
        """Closes now; what is under way is in doubt."""
        self.is_open = False
        if self._transport is not None and not self._transport.is_closing():
            last = h2.number(0) + h2.number(h2.NO_ERROR)
            self._write(h2.frame(h2.GOAWAY, 0, 0, last))
            self._flush()
            self._transport.close()

    # ---------------------------------------------------------------------- asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are none by type
        wanted = {h2.HEADER_TABLE_SIZE: 0, h2.ENABLE_PUSH: 0}
        credit = h2.number(CREDIT_BYTES - h2.WINDOW_BYTES)
        self._write(
            h2.PREFACE + h2.settings_frame(wanted) + h2.frame(h2.WINDOW_UPDATE, 0, 0, credit)
        )
        self._look_soon()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        why = type(error).__name__ if error is not None else "closed by the peer"
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError(why))
        for stream in list(self._streams.values()):
            self._end(stream, Failure("reset", sent=True, detail=why))
        while self._waiting:
            self._end(self._waiting.popleft(), _not_sent(why))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._begin_waiting()

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= h2.HEAD_BYTES:
            high, low, kind, flags, number = h2.read_head(data, at)
            size = high << 8 | low
            if size > h2.FRAME_BYTES:
                self._refuse(h2.FRAME_SIZE_ERROR, "a frame that is too large, or no HTTP/2 at all")
                return
            start, at_next = at + h2.HEAD_BYTES, at + h2.HEAD_BYTES + size
            if at_next > end:
                break
            # 0x88 is ":status: 200" (RFC 7541 A), the flags say that it is all of the answer.
            if flags == 5 and kind == h2.HEADERS and size and data[start] == 0x88:
                self._is_answered(number & h2.STREAM_MAX)
            else:
                try:
                    self._take(kind, flags, number & h2.STREAM_MAX, data[start:at_next])
                except (h2.MalformedAnswer, IndexError) as error:
                    self._refuse(h2.PROTOCOL_ERROR, str(error) or "a frame that is cut short")
                    return
            at = at_next
        self._rest = data[at:] if at < end else b""
        if self._waiting:
            self._begin_waiting()

    # -------------------------------------------------------------------------------- sending

    def _has_room(self, stream: _Stream) -> bool:
        return (
            len(self._streams) < self._streams_max
            and not self._paused
            and (self._window > 0 or not stream.body)
        )

    def _begin(self, stream: _Stream) -> None:
        """Opens the stream, and sends of its body what the windows allow."""
        number = stream.number = self._next
        self._next += 2
        if number > STREAMS_MAX and self.is_open:
            self.is_open = False
            self._loop.call_soon(self.leave)
        self._streams[number] = stream
        stream.window = self._stream_window
        block, body = stream.block, stream.body
        size = len(body)
        if (
            size <= self._window
            and size <= stream.window
            and size <= self._frame_bytes >= len(block)
        ):
            self._window -= size
            stream.window -= size
            stream.body = b""
            self._write(h2.frame(h2.HEADERS, h2.END_HEADERS, number, block))
            self._write(h2.frame(h2.DATA, h2.END_STREAM, number, body))
            return
        kind = h2.HEADERS
        while len(block) > self._frame_bytes:
            self._write(h2.frame(kind, 0, number, block[: self._frame_bytes]))
            kind, block = h2.CONTINUATION, block[self._frame_bytes :]
        self._write(h2.frame(kind, h2.END_HEADERS, number, block))
        self._send_more(stream)

    def _send_more(self, stream: _Stream) -> None:
        while stream.body:
            size = min(len(stream.body), self._window, stream.window, self._frame_bytes)
            if size <= 0:
                return
            part, stream.body = stream.body[:size], stream.body[size:]
            self._window -= size
            stream.window -= size
            flags = 0 if stream.body else h2.END_STREAM
            self._write(h2.frame(h2.DATA, flags, stream.number, part))

    def _begin_waiting(self) -> None:
        while self._waiting and self.is_open and self._has_room(self._waiting[0]):
            self._begin(self._waiting.popleft())

    def _write(self, data: bytes) -> None:
        """Gathers what one turn of the loop writes: a system call and a TLS record for all."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # ------------------------------------------------------------------------------ receiving

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """One frame. Raises ``MalformedAnswer`` when the connection cannot go on."""
        if self._headers_of is not None and kind != h2.CONTINUATION:
            raise h2.MalformedAnswer("headers that were not finished")
        if kind == h2.DATA:
            self._take_data(flags, number, payload)
        elif kind == h2.HEADERS:
            self._take_headers(number, flags, h2.without_padding(flags, payload))
        elif kind == h2.CONTINUATION:
            if self._headers_of is None or self._headers_of[0] != number:
                raise h2.MalformedAnswer("a continuation of nothing")
            _, first_flags, block = self._headers_of
            self._headers_of = None
            self._take_headers(number, first_flags | flags & h2.END_HEADERS, block + payload)
        elif kind == h2.RST_STREAM:
            self._take_reset(number, int.from_bytes(payload, "big"))
        elif kind == h2.SETTINGS:
            self._take_settings(flags, payload)
        elif kind == h2.WINDOW_UPDATE:
            self._take_window(number, int.from_bytes(payload, "big") & h2.WINDOW_BYTES_MAX)
        elif kind == h2.PING:
            if flags & h2.ACK:
                self._pinged_at = 0.0
            else:
                self._write(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif kind == h2.GOAWAY:
            self._take_goaway(int.from_bytes(payload[:4], "big") & h2.STREAM_MAX)
        elif kind == h2.PUSH_PROMISE:
            raise h2.MalformedAnswer("a push that nobody asked for")

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > CREDIT_BYTES // 2:
            self._write(h2.frame(h2.WINDOW_UPDATE, 0, 0, h2.number(self._taken)))
            self._taken = 0
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.data += h2.without_padding(flags & h2.PADDED, payload)
        is_enough = len(stream.data) >= self._settings.answer_bytes_max
        if flags & h2.END_STREAM:
            self._is_answered(number)
        elif is_enough:  # the status has been given, the rest does not matter
            self._write(h2.frame(h2.RST_STREAM, 0, number, h2.number(h2.CANCEL)))
            self._is_answered(number)

    def _take_headers(self, number: int, flags: int, block: bytes) -> None:
        if not flags & h2.END_HEADERS:
            if len(block) > h2.HEADER_BYTES_MAX:
                raise h2.MalformedAnswer("headers without an end")
            self._headers_of = (number, flags, block)
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # given up, and every block stands for itself
        if not stream.status:
            headers = h2.answer_headers(block)
            status = headers.get(":status", "")
            if not (status.isascii() and status.isdigit()):
                raise h2.MalformedAnswer("an answer without a status")
            if int(status) >= 200:  # below: the answer itself is still to come
                stream.status = int(status)
                stream.headers = {name: headers[name] for name in self._wanted if name in headers}
        if flags & h2.END_STREAM:
            self._is_answered(number)

    def _take_reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if code == h2.REFUSED_STREAM:
            self._end(stream, _not_sent("the peer refused the stream"))
        elif stream.status and code == h2.NO_ERROR:
            self._is_answered(number)  # it has said what it had to say without reading all
        else:
            self._end(stream, Failure("reset", sent=True, detail=f"stream error {code}"))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & h2.ACK:
            return
        for name, value in h2.read_settings(payload):
            if name == h2.STREAMS_MAX:
                self._streams_max = value
            elif name == h2.FRAME_BYTES_MAX:
                self._frame_bytes = max(h2.FRAME_BYTES, value)
            elif name == h2.INITIAL_WINDOW:
                more, self._stream_window = value - self._stream_window, value
                for stream in list(self._streams.values()):
                    stream.window += more
                    self._send_more(stream)
        self._write(h2.frame(h2.SETTINGS, h2.ACK, 0))
        if not self.ready.done():
            self.is_open = True
            self.ready.set_result(None)
        self._begin_waiting()

    def _take_window(self, number: int, more: int) -> None:
        if number:
            stream = self._streams.get(number)
            if stream is not None:
                stream.window += more
                self._send_more(stream)
            return
        self._window += more
        if self._window > h2.WINDOW_BYTES_MAX:
            raise h2.MalformedAnswer("a window beyond all bounds")
        for stream in list(self._streams.values()):
            if self._window <= 0:
                return
            if stream.body:
                self._send_more(stream)
        self._begin_waiting()

    def _take_goaway(self, last: int) -> None:
        """What is above ``last`` was never processed; what is not may yet be answered."""
        for stream in [s for n, s in self._streams.items() if n > last]:
            self._end(stream, _not_sent("the peer is going away"))
        self.leave()

    # --------------------------------------------------------------------------------- endings

    def _is_answered(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        self._timeouts = 0
        if stream.body:  # answered before it had read everything: it wants no more of it
            self._write(h2.frame(h2.RST_STREAM, 0, number, h2.number(h2.NO_ERROR)))
        self._end(stream, Response(stream.status or 200, stream.headers, stream.data))

    def _end(self, stream: _Stream, reply: Reply) -> None:
        self._streams.pop(stream.number, None)
        if not stream.done.done():
            stream.done.set_result(reply)
        if not self._streams and not self.is_open and self._transport is not None:
            self.close()

    def _forget(self, stream: _Stream) -> None:
        """Nobody waits for it any more."""
        if stream.number in self._streams:
            self._write(h2.frame(h2.RST_STREAM, 0, stream.number, h2.number(h2.CANCEL)))
        elif stream in self._waiting:
            self._waiting.remove(stream)
        self._end(stream, _not_sent("given up"))
        self._begin_waiting()

    def _refuse(self, code: int, why: str) -> None:
        """The peer does not speak HTTP/2 as we do: all is in doubt, nothing more is believed."""
        for stream in list(self._streams.values()):
            self._end(stream, Failure("reset", sent=True, detail=why))
        if self._transport is not None:
            self._write(h2.frame(h2.GOAWAY, 0, 0, h2.number(0) + h2.number(code)))
            self._flush()
            self.is_open = False
            self._transport.close()

    # ------------------------------------------------------------------------------------ time

    def _look_soon(self) -> None:
        interval_s = self._settings.request_ms_max / 1000 / LOOKS_PER_REQUEST
        self._looked_at = time.monotonic()
        self._timer = self._loop.call_later(min(interval_s, LOOK_SECONDS_MAX), self._look)

    def _look(self) -> None:
        """Ends what is too late, asks whether the peer is alive, closes what nobody uses."""
        now = time.monotonic()
        stood_still_s = now - self._looked_at
        if stood_still_s > STOOD_STILL_SECONDS:
            # This process stood still (stopped, suspended): answers may be waiting unread.
            for stream in (*self._streams.values(), *self._waiting):
                stream.deadline += stood_still_s
            self._heard_at = now
        for stream in [s for s in self._streams.values() if s.deadline <= now]:
            self._write(h2.frame(h2.RST_STREAM, 0, stream.number, h2.number(h2.CANCEL)))
            self._timeouts += 1
            self._end(stream, Failure("timeout", sent=True, detail="no answer in time"))
        for stream in [s for s in self._waiting if s.deadline <= now]:
            self._waiting.remove(stream)
            self._end(stream, Failure("timeout", sent=False, detail="its turn never came"))
        if self._transport is None or self._transport.is_closing():
            return
        self._begin_waiting()
        if self.is_open and self._timeouts >= self._settings.timeouts_to_replace:
            self.leave()  # perhaps half open: what has begun on it may still be answered
        if self.under_way:
            self._used_at = now
        elif now - self._used_at > self._settings.idle_ms_max / 1000:
            self.close()
        if not self._is_alive(now):
            self.is_open = False
            self._transport.abort()
            return
        self._look_soon()

    def _is_alive(self, now: float) -> bool:
        """Asks after a silence; False when there was no answer to that for as long again."""
        ping_s = self._settings.ping_interval_ms / 1000
        if now - self._heard_at < ping_s:
            self._pinged_at = 0.0
        elif not self._pinged_at:
            self._pinged_at = now
            self._write(h2.frame(h2.PING, 0, 0, b"flowstat"))
        elif now - self._pinged_at >= ping_s:
            return False
        return True


def _not_sent(why: str) -> Failure:
    return Failure("reset", sent=False, detail=why)
