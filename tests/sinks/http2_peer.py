"""HTTP/2 servers without TLS that misbehave on purpose; h2 sees to it that the client does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes


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
async def serving(make: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """A server of such connections; its port."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def peer(trouble: str) -> AsyncIterator[tuple[int, list[int]]]:
    """Its port, and the streams whose requests it has seen whole."""
    seen: list[int] = []
    async with serving(partial(Peer, trouble, seen)) as port:
        yield port, seen


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


class Exact(asyncio.Protocol):
    """Answers with ``answer(connection, stream, body)`` and keeps what was asked, and how.

    ``settings`` are the server's own; ``seen`` holds bodies in order of their arrival and
    ``broken`` what h2 said of a client that went beyond what it may.
    """

    def __init__(
        self,
        answer: Callable[[Exact, int, bytes], None],
        seen: list[bytes],
        broken: list[str],
        settings: dict[h2.settings.SettingCodes, int] | None = None,
    ) -> None:
        self.answer = answer
        self.seen = seen
        self.broken = broken
        self.bodies: dict[int, bytes] = {}
        self.unsent: dict[int, bytes] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings or {})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.broken.append(repr(error))
            self.transport.abort()
            return
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                self.bodies[event.stream_id] = b""
                self.headers[event.stream_id] = {str(n): str(v) for n, v in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data
                if event.data:  # credit comes late, so that the client does have to wait for it
                    credit = partial(self.give_credit, len(event.data), event.stream_id)
                    asyncio.get_running_loop().call_later(0.002, credit)
            elif isinstance(event, h2.events.StreamEnded):
                body = self.bodies.pop(event.stream_id)
                self.seen.append(body)
                self.answer(self, event.stream_id, body)
        self.send_more()
        self.flush()

    def say(self, stream: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        """Answers; the body as far as the client's windows allow, the rest later."""
        self.h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self.unsent[stream] = body

    def give_credit(self, size: int, stream: int) -> None:
        """The client may send as much again."""
        self.h2.acknowledge_received_data(size, stream)
        self.flush()

    def send_more(self) -> None:
        """What is left of bodies, as far as the client's windows allow."""
        for stream in list(self.unsent):
            while body := self.unsent.get(stream):
                size = min(self.h2.local_flow_control_window(stream), len(body), 16_384)
                if size <= 0:
                    break
                self.h2.send_data(stream, body[:size], end_stream=size == len(body))
                self.unsent[stream] = body[size:]
                if size == len(body):
                    del self.unsent[stream]

    def flush(self) -> None:
        """Writes what there is to write."""
        if not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())
