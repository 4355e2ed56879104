"""Requests to providers whose address is ours to configure, over pyreqwest: SMS.

It speaks HTTP/1.1, or over TLS what the provider prefers. For what goes out by the thousand over
HTTP/2 (APNs, FCM) there is ``http2_client.py``. What failures mean is in ``http_failures.py``.

Invariants: every request ends within ``request_ms_max``, or, if the client itself loses it, five
seconds later; no redirect is followed; no proxy of the environment is used; at most
``in_flight_max`` requests are under way. Why this client, and what is done about its one thread:
docs/decisions/0005-the-http-client.md.
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
from streams.sinks.http_failures import explain
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

log = logging.getLogger(__name__)


class ClientLost(RuntimeError):  # noqa: N818 (what became of it)
    """The HTTP client hands no answers over any more; only a new process has a new one."""


class HttpTransport:
    """One provider's connections."""

    def __init__(
        self, name: str, settings: HttpSettings, in_flight_max: int,
        wanted_headers: Sequence[str] = WANTED_HEADERS,
    ) -> None:  # fmt: skip
        self._name = name
        self._settings = settings
        self._wanted = tuple(wanted_headers)
        self._slots = asyncio.Semaphore(in_flight_max)
        self._deadline_s = (settings.request_ms_max + LOST_MS) / 1000
        self._client: Client | None = None
        self._timeouts = 0
        """Deadlines missed in a row."""
        self._retired: list[Client] = []
        self._under_way: dict[asyncio.Task[Any], float] = {}
        """Task -> when it has been lost; oldest first, as all have the same time."""
        self._overdue: set[asyncio.Task[Any]] = set()
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost = 0
        """Requests lost by the client since it last handed anything over."""

    async def start(self) -> None:
        self._client = self._builder().build()
        self._look_soon(asyncio.get_running_loop())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        clients = [client for client in (self._client, *self._retired) if client is not None]
        self._client, self._retired = None, []
        for client in clients:
            await client.close()

    async def send(self, request: HttpRequest) -> Reply:
        """One request. Raises ``ClientLost`` when the client has lost several in a row."""
        async with self._slots:
            assert self._client is not None, "started before use"
            return await self._send(self._client, request)

    async def _send(self, client: Client, request: HttpRequest) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = time.monotonic() + self._deadline_s
        try:
            reply = await self._exchange(client, request)
        except DetailedPyreqwestError as error:
            self._lost = 0
            failure = explain(error)
            if failure.reason == "timeout":
                await self._count_timeout(client)
            return failure
        except asyncio.CancelledError:
            if task in self._overdue and task.uncancel() == 0:
                return self._give_up()
            raise
        finally:
            del self._under_way[task]
            self._overdue.discard(task)
        self._lost = self._timeouts = 0
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

    async def _count_timeout(self, client: Client) -> None:
        """Connections that answer nothing for a while may be half open: start with new ones."""
        self._timeouts += 1
        if self._timeouts < self._settings.timeouts_to_replace or client is not self._client:
            return
        log.warning("%s: replacing connections that do not answer", self._name)
        self._retired.append(client)
        self._client, self._timeouts = self._builder().build(), 0
        if len(self._retired) > RETIRED_MAX:
            await self._retired.pop(0).close()

    def _builder(self) -> ClientBuilder:
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
        return builder
