"""A provider that takes everything at once: what a sink could do if its provider cost nothing.

HTTP/2 over TLS (APNs) and HTTP/1.1 (all others), both as little server as can be: frames and lines
are looked at only as far as needed to know where a request ends, so that the machine's time goes
to what is measured. Run as a process of its own; ``GET /away`` and ``GET /back`` make it refuse
everything for a while, ``GET /count`` says how many requests it has answered.

    python -m benchmarks.null_provider FOLDER      (prints the two ports)
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from pathlib import Path

import uvloop

from streams.local.authority import identity

WINDOW = (1 << 31) - 1
CREDIT_BYTES = 1 << 20
"""Credit is given back after so many bytes."""
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
OK_HPACK, AWAY_HPACK = b"\x88", b"\x08\x03503"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWERS: tuple[tuple[bytes, int, bytes], ...] = (
    (b"/token", 200, b'{"access_token":"t","token_type":"Bearer","expires_in":3600}'),
    (b"/v1/projects/", 200, b'{"name":"projects/p/messages/1"}'),
    (b"/2010-04-01/", 201, b'{"sid":"SM1","status":"queued"}'),
    (b"/sms/json", 200, b'{"messages":[{"status":"0","message-id":"1"}]}'),
    (b"/services/", 200, b"ok"),
    (b"/push/", 201, b""),
    (b"/", 204, b""),
)


class State:
    """What all connections share."""

    away = False
    count = 0


class Http2(asyncio.Protocol):
    """One HTTP/2 connection; headers are not even decoded."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._buffer = b""
        self._credit = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._preface = True
        streams = (0x3).to_bytes(2) + (1_000).to_bytes(4)
        self._transport.write(
            _frame(SETTINGS, 0, 0, streams) + _frame(8, 0, 0, (WINDOW - 65_535).to_bytes(4))
        )

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        if self._preface:
            if len(data) < 24:
                self._buffer = data
                return
            at, self._preface = 24, False
        out: list[bytes] = []
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3])
            if len(data) - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = data[at + 5 : at + 9]
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                out.append(self._answer(stream))
            elif kind == SETTINGS and not flags & ACK:
                out.append(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                out.append(_frame(PING, ACK, 0, data[at + 9 : at + 17]))
            if kind == DATA:
                self._credit += length
            at += 9 + length
        self._buffer = data[at:]
        if self._credit > CREDIT_BYTES:
            out.append(_frame(8, 0, 0, self._credit.to_bytes(4)))
            self._credit = 0
        if out:
            self._transport.write(b"".join(out))

    def _answer(self, stream: bytes) -> bytes:
        self._state.count += 1
        block = AWAY_HPACK if self._state.away else OK_HPACK
        return len(block).to_bytes(3) + bytes([HEADERS, END_STREAM | END_HEADERS]) + stream + block


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


class Http1(asyncio.Protocol):
    """One HTTP/1.1 connection; the path alone says which provider is meant."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._transport.write(self._answer(head.split(b" ", 2)[1]))

    def _answer(self, path: bytes) -> bytes:
        state = self._state
        if path in (b"/away", b"/back", b"/count"):
            state.away = path == b"/away" or (state.away and path == b"/count")
            return _reply(200, b"%d" % state.count)
        state.count += 1
        if state.away and path != b"/token":
            return _reply(503, b"")
        return next(_reply(s, b) for prefix, s, b in ANSWERS if path.startswith(prefix))


def _reply(status: int, body: bytes) -> bytes:
    if status == 204:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


async def serve(folder: Path) -> None:
    """Serves until it is killed; the first line of output is ``[HTTP/2 port, HTTP/1.1 port]``."""
    known, state = identity(folder), State()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(known.certificate_file, known.key_file)
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    two = await loop.create_server(lambda: Http2(state), "127.0.0.1", 0, ssl=context)
    one = await loop.create_server(lambda: Http1(state), "127.0.0.1", 0, backlog=1_024)
    ports = [server.sockets[0].getsockname()[1] for server in (two, one)]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
