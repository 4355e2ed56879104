"""What every request passes before its handler: identity, allowance, size, time; and its log line.

The access log is one JSON object a line, with the route and never the path, with the key's id and
never the key: nothing in it is about a person.

Invariants: a handler never sees a request without the scope that its route names; whatever
happens, the answer is a problem that says what to change and the line is written.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

import msgspec
from aiohttp import web

from streams.api import metrics
from streams.api.keys import OPEN_KEY, ApiKey, KeyRing
from streams.api.limits import Allowance
from streams.api.problems import ProblemError, answer, of_http_exception, problem, refuse
from streams.api.routes import ALLOWANCE, BODY_BYTES, ITEMS, KEY, Handler, Route
from streams.api.settings import ApiSettings, KeyLimits
from streams.web.internal import LOOPBACK_HOSTS, name_of

log = logging.getLogger(__name__)
access = logging.getLogger("flowstate.access")

ALLOWANCES_MAX = 20_000


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request in the access log."""

    method: str
    route: str
    status: int
    ms: float
    bytes_in: int
    bytes_out: int
    request_id: str
    key: str = ""
    items: int = 0


class Gate:
    """Wraps handlers. One per process."""

    def __init__(
        self,
        settings: ApiSettings,
        ring: KeyRing,
        is_open: bool,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``is_open``: no keys and loopback only, so whoever asks may do everything."""
        self._settings = settings
        self._ring = ring
        self._is_open = is_open
        self._clock = clock
        self._now_ms = now_ms
        self._allowances: dict[str, Allowance] = {}
        self._under_way = 0
        self._bytes_under_way = 0

    def wrap(self, route: Route) -> Handler:
        """The route's handler behind the gate."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._logged(route, request)

        return handle

    # ------------------------------------------------------------------------------ whole request

    async def _logged(self, route: Route, request: web.Request) -> web.StreamResponse:
        began = self._clock()
        request_id = secrets.token_hex(8)
        response = await self._answered(route, request)
        response.headers["X-Request-Id"] = request_id
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        seconds = self._clock() - began
        metrics.REQUESTS.labels(route.operation, str(response.status)).inc()
        metrics.REQUEST_SECONDS.labels(route.operation).observe(seconds)
        if access.isEnabledFor(logging.INFO):
            key = request.get(KEY)
            line = AccessLine(
                request.method,
                route.path,
                response.status,
                round(seconds * 1000, 2),
                request.get(BODY_BYTES, 0),
                response.content_length or 0 if isinstance(response, web.Response) else 0,
                request_id,
                key.key_id if key is not None else "",
                request.get(ITEMS, 0),
            )
            access.info(msgspec.json.encode(line).decode())
        return response

    async def _answered(self, route: Route, request: web.Request) -> web.StreamResponse:
        try:
            return await self._admitted(route, request)
        except ProblemError as error:
            return answer(error.problem, error.headers)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return answer(of_http_exception(error))
        except TimeoutError:
            return answer(problem("unavailable", "It took too long.", retry_after_s=1))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a handler of %s failed", route.operation)
            return answer(problem("internal", "The log has the details under the request's id."))

    async def _admitted(self, route: Route, request: web.Request) -> web.StreamResponse:
        key = self._identify(route, request)
        allowance = self._allowance(route, key)
        wait_s = allowance.enter(self._clock())
        if wait_s:
            raise refuse(
                "too_many_requests",
                f"At most {allowance.limits.requests_per_second:g} requests a second and"
                f" {allowance.limits.concurrency_max} at once; ask again later.",
                retry_after_s=wait_s,
            )
        size = self._size(route, request)
        settings = self._settings
        if (
            self._under_way >= settings.concurrency_max
            or self._bytes_under_way + size > settings.bodies_bytes_max
        ):
            raise refuse("unavailable", "Too much at once.", retry_after_s=settings.retry_after_s)
        request[ALLOWANCE] = allowance
        request[BODY_BYTES] = request.content_length or 0
        allowance.under_way += 1
        self._under_way += 1
        self._bytes_under_way += size
        try:
            async with asyncio.timeout(settings.request_ms_max / 1000):
                return await route.handler(request)
        finally:
            allowance.under_way -= 1
            self._under_way -= 1
            self._bytes_under_way -= size

    # ------------------------------------------------------------------------------------- pieces

    def _identify(self, route: Route, request: web.Request) -> ApiKey | None:
        """The key that is shown, if the route needs one. Raises 401 and 403."""
        if route.scope is None:
            return None
        if self._is_open and not self._ring.has_keys:
            self._check_host(request)
            request[KEY] = OPEN_KEY
            return OPEN_KEY
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        key = self._ring.find(token.strip(), self._now_ms()) if scheme.lower() == "bearer" else None
        if key is None:
            raise refuse(
                "unauthenticated",
                "Send Authorization: Bearer KEY, with a key of `flowstate keys create` that is"
                " neither revoked nor expired.",
            )
        request[KEY] = key
        if route.scope not in key.scopes:
            raise refuse("forbidden", f"This needs a key with the scope {route.scope}.")
        return key

    def _check_host(self, request: web.Request) -> None:
        """Without keys only this machine may ask, and no web page in its browser."""
        if name_of(request.host) not in LOOPBACK_HOSTS:
            raise refuse(
                "forbidden",
                "There are no API keys, so only this machine is answered: use its loopback"
                " address, or make a key with `flowstate keys create`.",
            )

    def _allowance(self, route: Route, key: ApiKey | None) -> Allowance:
        name = f"key:{key.key_id}" if key is not None else f"route:{route.operation}"
        limits = self._limits(key)
        known = self._allowances.get(name)
        if known is not None and known.limits == limits:
            return known
        if len(self._allowances) >= ALLOWANCES_MAX:
            del self._allowances[next(iter(self._allowances))]
        made = self._allowances[name] = Allowance(limits, self._clock())
        return made

    def _limits(self, key: ApiKey | None) -> KeyLimits:
        if key is None:
            return self._settings.public_limits
        return key.limits or self._settings.key_limits

    def _size(self, route: Route, request: web.Request) -> int:
        """Bytes that the body may have; raises 413 for one that says that it is larger."""
        settings = self._settings
        limit = settings.body_bytes_max if route.is_large else settings.small_body_bytes_max
        if not request.body_exists:
            return 0
        length = request.content_length
        if length is not None and length > limit:
            raise refuse("too_large", f"At most {limit} bytes are read here.")
        # aiohttp stops reading a body without a length, or a compressed one, at this many bytes.
        request._client_max_size = limit
        is_known = length is not None and "Content-Encoding" not in request.headers
        return length if is_known and length is not None else limit


async def unrouted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What no route takes, as a problem and not as aiohttp's text."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return answer(of_http_exception(error), headers)
