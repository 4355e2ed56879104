"""Requests to providers whose address is ours to configure: HTTP/2 and HTTP/1.1 over pyreqwest.

pyreqwest (Rust's reqwest and hyper underneath) was the fastest of those measured against a real
HTTP/2 server, by a factor of 1.6 in rate and 1.8 in CPU, and gives flow-control credit back.

Its exception *classes* do not say whether a request was written: a reset after the request is a
``ConnectError`` and a deadline missed while waiting for the answer is a ``ConnectTimeoutError``.
The list of causes does, so that is what is read here (``tests/sinks/test_http_client.py`` pins it).
Only two things are taken as "never processed": a failure to connect, and HTTP/2's own statement
(REFUSED_STREAM, or GOAWAY for streams above the last one it took: RFC 9113 §6.8, §8.7). hyper has
then already tried again on its own, which is safe for the same reason. All else is ambiguous.

Invariants: every request ends within ``request_ms_max``, or, if the client itself loses it, five
seconds later; no redirect is followed; no proxy of the environment is used; at most
``in_flight_max`` requests are under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, RequestTimeoutError

from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.settings import HttpSettings

RETIRED_MAX = 4
"""Replaced connections that may still be finishing; beyond it the oldest is closed."""
WANTED_HEADERS = ("retry-after",)

NEVER_CONNECTED = "client error (Connect)"
REFUSED = (
    "stream error received: refused stream before processing any application logic",
    "connection error received: not a result of an error",
)

LOST_MS = 5_000
"""A request that is so late beyond its deadline has been lost inside the client."""

log = logging.getLogger(__name__)


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
        self._clients: list[Client] = []
        self._timeouts: list[int] = []
        self._retired: list[Client] = []
        self._next = 0

    async def start(self) -> None:
        count = self._settings.connections if self._http2 else 1
        self._clients = [self._build() for _ in range(count)]
        self._timeouts = [0] * count

    async def stop(self) -> None:
        for client in (*self._clients, *self._retired):
            await client.close()
        self._clients, self._retired = [], []

    async def send(self, request: HttpRequest) -> Reply:
        async with self._slots:
            index = self._next = (self._next + 1) % len(self._clients)
            client = self._clients[index]
            try:
                async with asyncio.timeout(self._deadline_s):
                    reply = await self._exchange(client, request)
            except DetailedPyreqwestError as error:
                failure = explain(error)
                if failure.reason == "timeout" and client is self._clients[index]:
                    await self._count_timeout(index)
                return failure
            except TimeoutError:
                # The client has a deadline of its own. This one is for an answer that it never
                # hands over: without it the recipient's next message would wait for ever.
                log.warning("%s: the HTTP client lost a request", self._name)
                return Failure("timeout", sent=True, detail="the client never answered")
            self._timeouts[index] = 0
            return reply

    async def _exchange(self, client: Client, request: HttpRequest) -> Response:
        call = client.request(request.method, request.url).headers(request.headers)
        reply = await call.body_bytes(request.body).build().send()
        headers = {}
        for name in self._wanted:
            value = reply.get_header(name)
            if value is not None:
                headers[name] = value
        return Response(reply.status, headers, bytes(await reply.bytes()))

    async def _count_timeout(self, index: int) -> None:
        """A connection that answers nothing for a while may be half open: start another."""
        self._timeouts[index] += 1
        if self._timeouts[index] < self._settings.timeouts_to_replace:
            return
        log.warning("%s: replacing a connection that does not answer", self._name)
        self._retired.append(self._clients[index])
        self._clients[index] = self._build()
        self._timeouts[index] = 0
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


def explain(error: DetailedPyreqwestError) -> Failure:
    """What an exception of pyreqwest says about the request."""
    causes = [str(cause["message"]) for cause in error.details.get("causes") or ()]
    detail = causes[-1] if causes else error.message
    if isinstance(error, BuilderError):
        return Failure("protocol", sent=False, detail=detail)
    if NEVER_CONNECTED in causes:
        return Failure("connect", sent=False, detail=detail)
    if detail in REFUSED:
        return Failure("reset", sent=False, detail=detail)
    if isinstance(error, RequestTimeoutError):
        return Failure("timeout", sent=True, detail=detail)
    return Failure("reset", sent=True, detail=detail)
