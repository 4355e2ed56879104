"""Requests to providers that speak HTTP/2: one connection (or a few), all requests beside it.

``http2_connection.py`` is one connection; here is which one a request goes over: connections are
made when they are needed and made anew when the peer says goodbye, and what a peer says it has not
processed is sent again, since nobody can have received it (RFC 9113 §8.7).

Invariants: a *new* connection carries one request until that was answered by a provider that knows
us (not 403), as APNs wants it; nothing is sent twice but what the peer said it did not process, at
most ``TRIES_MAX`` times in all; a request ends within ``request_ms_max`` and what connecting takes
at most; no redirect is followed and no proxy of the environment is used. How many requests are
under way is bounded where they are reserved (``in_flight_max`` of the provider).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.http2_connection import Http2Connection
from streams.sinks.http2_frames import Headers, MalformedRequest
from streams.sinks.http_failures import of_who_waited
from streams.sinks.settings import HttpSettings

TRIES_MAX = 3
"""Of one request, where the peer says each time that it did not process it."""
ORIGINS_MAX = 16
"""Addresses of one provider (production and sandbox are two); more are a mistake."""
NEXT_ADDRESS_SECONDS = 0.25
"""After so long without a connection the next address of the name is tried beside (RFC 8305)."""
WANTED_HEADERS = ("retry-after",)
FORBIDDEN = 403


class _Place:
    """Where one connection is, or is being made."""

    __slots__ = ("connection", "dialing", "first")

    def __init__(self) -> None:
        self.connection: Http2Connection | None = None
        self.dialing: asyncio.Task[Failure | None] | None = None
        self.first: asyncio.Future[Failure | None] | None = None
        """The one request that may be under way while the connection is not warm."""


class _Origin:
    """One address, with the headers that all requests to it begin with."""

    def __init__(self, origin: str, connections: int) -> None:
        """Raises ``MalformedRequest`` for what is no URL of a server."""
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MalformedRequest("not the URL of a server")
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname
        try:
            self.port = parts.port or (443 if self.is_tls else 80)
        except ValueError as error:
            raise MalformedRequest("a port that is none") from error
        self.headers = Headers(parts.scheme, parts.netloc)
        self.places = [_Place() for _ in range(connections)]
        self._turn = 0

    def next_place(self) -> _Place:
        """The connections in turn."""
        self._turn = (self._turn + 1) % len(self.places)
        return self.places[self._turn]


class Http2Transport:
    """One provider's connections. A ``Transport``."""

    def __init__(
        self, settings: HttpSettings, wanted_headers: Sequence[str] = WANTED_HEADERS
    ) -> None:
        self._settings = settings
        self._wanted = tuple(wanted_headers)
        self._context = ssl.create_default_context()
        if settings.ca_pem:
            self._context.load_verify_locations(cadata=settings.ca_pem)
        self._context.set_alpn_protocols(["h2"])
        self._origins: dict[str, _Origin] = {}
        self._open: set[Http2Connection] = set()
        """All that are not closed, also those that only finish."""

    async def start(self) -> None:
        """Nothing yet: connections are made when they are needed."""

    async def stop(self) -> None:
        origins, self._origins = self._origins, {}
        for origin in origins.values():
            for place in origin.places:
                if place.dialing is not None:
                    place.dialing.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()

    async def send(self, request: HttpRequest) -> Reply:
        """One request, at most its deadline."""
        deadline = time.monotonic() + self._settings.request_ms_max / 1000
        base, slash, path = request.url.partition("://")[2].partition("/")
        try:
            origin = self._origins.get(base) or self._learn(base, request.url)
            body = request.body
            block = origin.headers.block(
                request.method, slash + path or "/", request.headers, len(body)
            )
        except MalformedRequest as error:
            return Failure("protocol", sent=False, detail=str(error))
        for _ in range(TRIES_MAX):
            place = origin.next_place()
            connection = place.connection
            if connection is not None and connection.is_warm and connection.is_open:
                reply = await connection.exchange(block, body, deadline)
            else:
                reply = await self._send_on_cold(origin, place, block, body, deadline)
            if not isinstance(reply, Failure) or reply.sent or reply.reason != "reset":
                return reply
        return reply

    def _learn(self, base: str, url: str) -> _Origin:
        if len(self._origins) >= ORIGINS_MAX:
            raise MalformedRequest(f"more than {ORIGINS_MAX} addresses of one provider")
        scheme = url.partition("://")[0]
        origin = _Origin(f"{scheme}://{base}", self._settings.connections)
        self._origins[base] = origin
        return origin

    async def _send_on_cold(
        self, origin: _Origin, place: _Place, block: bytes, body: bytes, deadline: float
    ) -> Reply:
        """Alone until something was answered: APNs takes one stream on a new connection."""
        dials = 0
        while time.monotonic() < deadline:
            connection = place.connection
            if connection is None or not connection.is_open:
                if dials == TRIES_MAX:
                    return Failure("connect", sent=False, detail="each new connection was closed")
                dials += 1
                failure = await self._dialed(origin, place)
            elif connection.is_warm:
                return await connection.exchange(block, body, deadline)
            elif place.first is None:
                return await self._send_first(place, connection, block, body, deadline)
            else:
                failure = await asyncio.shield(place.first)
            if failure is not None:
                return failure
        return Failure("timeout", sent=False, detail="its turn never came")

    async def _send_first(
        self, place: _Place, connection: Http2Connection, block: bytes, body: bytes, deadline: float
    ) -> Reply:
        first = place.first = asyncio.get_running_loop().create_future()
        reply: Reply | None = None
        try:
            reply = await connection.exchange(block, body, deadline)
        finally:
            place.first = None
            first.set_result(of_who_waited(reply))
        connection.is_warm = isinstance(reply, Response) and reply.status != FORBIDDEN
        return reply

    async def _dialed(self, origin: _Origin, place: _Place) -> Failure | None:
        """Makes the connection, once for all who wait for it."""
        if place.dialing is None:
            place.dialing = asyncio.create_task(self._dial(origin, place))
        return await asyncio.shield(place.dialing)

    async def _dial(self, origin: _Origin, place: _Place) -> Failure | None:
        loop = asyncio.get_running_loop()
        connection: Http2Connection | None = None
        try:
            async with asyncio.timeout(self._settings.connect_ms_max / 1000):
                found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
                connected = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
                _, connection = await loop.create_connection(
                    lambda: Http2Connection(self._settings, self._wanted),
                    sock=connected,
                    ssl=self._context if origin.is_tls else None,
                    server_hostname=origin.host if origin.is_tls else None,
                )
                self._open = {one for one in self._open if not one.is_closed}
                self._open.add(connection)
                await connection.ready
        except (TimeoutError, OSError, ValueError) as error:  # ssl's errors are OSErrors
            if connection is not None:
                connection.close()
            return Failure("connect", sent=False, detail=type(error).__name__)
        finally:
            place.dialing = None
        place.connection = connection
        return None
