"""Requests to URLs that strangers gave: webhooks and Web Push endpoints.

The name is resolved once per connection, every address of the answer is checked, and the socket
is connected to the addresses that were checked, with the name as SNI: what a second resolution
would say no longer matters (DNS rebinding). aiohttp is used because its resolver is ours to give;
it is not asked for addresses written in the URL, so these are checked before.

Invariants: no redirect, no proxy, no cookie; an answer is read up to ``answer_bytes_max`` and no
further; a host whose addresses are partly forbidden is refused whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from streams.sinks.addresses import address_refusal, url_refusal
from streams.sinks.base import Failure, HttpRequest, Reply, Response
from streams.sinks.settings import AddressRules, HttpSettings

WANTED_HEADERS = ("retry-after", "location")
CONNECTIONS_PER_HOST_MAX = 20


class ForbiddenAddress(OSError):  # noqa: N818 (what the name led to)
    """A name led to an address that may not be called."""


class CheckedResolver(AbstractResolver):
    """Resolves with another resolver and refuses what may not be called."""

    def __init__(self, inner: AbstractResolver, rules: AddressRules) -> None:
        self._inner = inner
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of ``host``; raises ``ForbiddenAddress`` if any is forbidden."""
        found = await self._inner.resolve(host, port, family)
        for item in found:
            refusal = address_refusal(ipaddress.ip_address(item["host"]), self._rules)
            if refusal is not None:
                raise ForbiddenAddress(refusal)
        return found

    async def close(self) -> None:
        await self._inner.close()


class GuardedTransport:
    """One provider's connections to anybody."""

    def __init__(
        self, settings: HttpSettings, rules: AddressRules, in_flight_max: int,
        resolver: AbstractResolver | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._rules = rules
        self._in_flight_max = in_flight_max
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        context = ssl.create_default_context()
        if self._settings.ca_pem:
            context.load_verify_locations(cadata=self._settings.ca_pem)
        connector = aiohttp.TCPConnector(
            limit=self._in_flight_max,
            limit_per_host=CONNECTIONS_PER_HOST_MAX,
            resolver=CheckedResolver(self._resolver or ThreadedResolver(), self._rules),
            use_dns_cache=False,
            ssl=context,
            keepalive_timeout=self._settings.idle_ms_max / 1000,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer could unfold into a large one
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=self._settings.request_ms_max / 1000,
                connect=self._settings.connect_ms_max / 1000,
            ),
            headers={"user-agent": "flowstate"},
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: HttpRequest) -> Reply:
        assert self._session is not None, "started before use"
        refusal = url_refusal(request.url, self._rules)
        if refusal is not None:
            return Failure("forbidden_address", sent=False, detail=refusal)
        try:
            async with self._session.request(
                request.method, request.url, data=request.body, headers=request.headers,
                allow_redirects=False,
            ) as reply:  # fmt: skip
                body = await _read_up_to(reply, self._settings.answer_bytes_max)
                headers = {n: reply.headers[n] for n in WANTED_HEADERS if n in reply.headers}
                return Response(reply.status, headers, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return explain(error)


async def _read_up_to(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    """The beginning of the answer; the status has been given, the rest does not matter."""
    chunks: list[bytes] = []
    left = limit
    try:
        while left > 0:
            chunk = await reply.content.read(left)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            left -= len(chunk)
    except (aiohttp.ClientError, OSError):
        pass
    reply.close()  # the connection cannot be used again with an answer half read
    return b"".join(chunks)


def explain(error: Exception) -> Failure:
    """Whether the request can have been sent: only connecting is known to come before."""
    detail = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ForbiddenAddress):
            return Failure("forbidden_address", sent=False, detail=str(error.os_error))
        return Failure("connect", sent=False, detail=detail)
    if isinstance(error, (aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)):
        return Failure("connect", sent=False, detail=detail)
    if isinstance(error, ForbiddenAddress):
        return Failure("forbidden_address", sent=False, detail=str(error))
    if isinstance(error, asyncio.TimeoutError):
        return Failure("timeout", sent=True, detail=detail)
    return Failure("reset", sent=True, detail=detail)
