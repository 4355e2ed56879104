"""Requests to providers whose address is ours to configure: HTTP/2 and HTTP/1.1 over pyreqwest.

pyreqwest (Rust's reqwest and hyper underneath) was the fastest of those measured against a real
HTTP/2 server, by a factor of 1.6 in rate and 1.8 in CPU, and gives flow-control credit back.

What its failures mean is in ``http_failures.py``.

Invariants: every request ends within ``request_ms_max``, or, if the client itself loses it, five
seconds later; no redirect is followed; no proxy of the environment is used; at most
``in_flight_max`` requests are under way; a new HTTP/2 connection carries one request until that
was answered by a provider that knows us (not 403). Why this client, and what is done about its one
thread: docs/decisions/0005-the-http-client.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError

from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.http_failures import explain, of_who_waited
from streams.sinks.settings import HttpSettings

RETIRED_MAX = 4
"""Replaced connections that may still be finishing; beyond it the oldest is closed."""
WANTED_HEADERS = ("retry-after",)

LOST_MS = 5_000
"""A request that is so late beyond its deadline has been lost inside the client."""
LOOK_SECONDS = 1.0
"""How often it is looked for such requests."""
STOOD_STILL_SECONDS = 3.0
LOST_MAX = 3
"""So many lost in a row end the process: a new one has a new client."""
FORBIDDEN = 403

log = logging.getLogger(__name__)


class ClientLost(RuntimeError):  # noqa: N818 (what became of it)
    """The HTTP client hands no answers over any more; only a new process has a new one."""


class _Connection:
    """One HTTP/2 connection (or all of HTTP/1.1's) and what is known of it."""

    __slots__ = ("answered_at", "client", "first", "is_warm", "timeouts")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.timeouts = 0
        """Deadlines missed in a row."""
        self.is_warm = False
        """A request was answered on it, so others may go beside it."""
        self.first: asyncio.Future[Failure | None] | None = None
        """The one request that may be under way while it is not warm."""
        self.answered_at = 0.0


class HttpTransport:
    """One provider's connections."""

    def __init__(
        self, name: str, settings: HttpSettings, in_flight_max: int, *,
        http2: bool = False, wanted_headers: Sequence[str] = WANTED_HEADERS,
    ) -> None:  # fmt: skip
        self._name = name
        self._settings = settings
        self._http2 = http2
        self._wanted = tuple(wanted_headers)
        self._slots = asyncio.Semaphore(in_flight_max)
        self._deadline_s = (settings.request_ms_max + LOST_MS) / 1000
        self._connections: list[_Connection] = []
        self._retired: list[Client] = []
        self._next = 0
        self._under_way: dict[asyncio.Task[Any], float] = {}
        """Task -> when it has been lost; oldest first, as all have the same time."""
        self._overdue: set[asyncio.Task[Any]] = set()
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost = 0
        """Requests lost by the client since it last handed anything over."""

    async def start(self) -> None:
        count = self._settings.connections if self._http2 else 1
        self._connections = [_Connection(self._build()) for _ in range(count)]
        self._look_soon(asyncio.get_running_loop())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for client in (*(c.client for c in self._connections), *self._retired):
            await client.close()
        self._connections, self._retired = [], []

    async def send(self, request: HttpRequest) -> Reply:
        """One request. Raises ``ClientLost`` when the client has lost several in a row."""
        async with self._slots:
            index = self._next = (self._next + 1) % len(self._connections)
            connection = self._connections[index]
            if not self._http2 or self._is_warm(connection):
                return await self._send(connection, request)
            return await self._send_on_cold(connection, request)

    async def _send_on_cold(self, connection: _Connection, request: HttpRequest) -> Reply:
        """Alone until something was answered: APNs takes one stream on a new connection."""
        while not self._is_warm(connection):
            if connection.first is not None:
                failure = await asyncio.shield(connection.first)
                if failure is not None:
                    return failure
                continue
            first = connection.first = asyncio.get_running_loop().create_future()
            reply: Reply | None = None
            try:
                reply = await self._send(connection, request)
            finally:
                connection.first = None
                first.set_result(of_who_waited(reply))
            return reply
        return await self._send(connection, request)

    def _is_warm(self, connection: _Connection) -> bool:
        """Answered lately: after a long silence the connection below may be another one."""
        idle_s = time.monotonic() - connection.answered_at
        return connection.is_warm and idle_s * 1000 < self._settings.idle_ms_max

    async def _send(self, connection: _Connection, request: HttpRequest) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = time.monotonic() + self._deadline_s
        try:
            reply = await self._exchange(connection.client, request)
        except DetailedPyreqwestError as error:
            self._lost = 0
            connection.is_warm = False
            failure = explain(error)
            if failure.reason == "timeout":
                await self._count_timeout(connection)
            return failure
        except asyncio.CancelledError:
            if task in self._overdue and task.uncancel() == 0:
                return self._give_up()
            raise
        finally:
            del self._under_way[task]
            self._overdue.discard(task)
        self._lost = connection.timeouts = 0
        connection.answered_at = time.monotonic()
        connection.is_warm = connection.is_warm or reply.status != FORBIDDEN
        return reply

    def _look_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looked_at = time.monotonic()
        interval_s = min(LOOK_SECONDS, self._deadline_s / 4)
        self._timer = loop.call_later(interval_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends what the client has lost. One timer for all: a timeout each took 6 % of the loop."""
        now = time.monotonic()
        if now - self._looked_at > STOOD_STILL_SECONDS:
            # This process stood still (stopped, suspended): answers may be waiting unread.
            self._under_way = dict.fromkeys(self._under_way, now + self._deadline_s)
        for task, lost_at in self._under_way.items():
            if lost_at > now:
                break
            if task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        self._look_soon(loop)

    def _give_up(self) -> Failure:
        """The client has a deadline of its own, so this request will never be handed over.

        Without this its recipient's next message would wait for ever. One is a doubt like any
        other; several with nothing in between mean that the client's only thread is gone.
        """
        self._lost += 1
        log.error("%s: the HTTP client lost a request (%d in a row)", self._name, self._lost)
        if self._lost >= LOST_MAX:
            raise ClientLost(f"{self._name}: the HTTP client answers no more")
        return Failure("timeout", sent=True, detail="the client never answered")

    async def _exchange(self, client: Client, request: HttpRequest) -> Response:
        call = client.request(request.method, request.url).headers(request.headers)
        reply = await call.body_bytes(request.body).build().send()
        headers = {}
        for name in self._wanted:
            value = reply.get_header(name)
            if value is not None:
                headers[name] = value
        return Response(reply.status, headers, bytes(await reply.bytes()))

    async def _count_timeout(self, connection: _Connection) -> None:
        """A connection that answers nothing for a while may be half open: start another."""
        connection.timeouts += 1
        if connection.timeouts < self._settings.timeouts_to_replace:
            return
        log.warning("%s: replacing a connection that does not answer", self._name)
        self._retired.append(connection.client)
        connection.client, connection.timeouts = self._build(), 0
        if len(self._retired) > RETIRED_MAX:
            await self._retired.pop(0).close()

    def _build(self) -> Client:
        settings = self._settings
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .user_agent("flowstate")
            .timeout(timedelta(milliseconds=settings.request_ms_max))
            .connect_timeout(timedelta(milliseconds=settings.connect_ms_max))
            .pool_idle_timeout(timedelta(milliseconds=settings.idle_ms_max))
        )
        if settings.ca_pem:
            builder = builder.add_root_certificate_pem(settings.ca_pem.encode())
        if self._http2:
            ping = timedelta(milliseconds=settings.ping_interval_ms)
            builder = (
                builder.http2_prior_knowledge()
                .http2_keep_alive_interval(ping)
                .http2_keep_alive_timeout(ping)
                .http2_keep_alive_while_idle(True)
            )
        return builder.build()
