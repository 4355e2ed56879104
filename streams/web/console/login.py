"""Logging in with an API key, and out again.

The key is sent once; from then on the browser shows a signed session cookie (``sessions.py``).
Attempts are limited by address, and what was wrong with a key is not said.

Invariants: a failed attempt costs allowance, whatever it tried; one only ever comes back to a path
of this server.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from streams.api.limits import Bucket
from streams.api.problems import ProblemError
from streams.web.access import SESSION_COOKIE
from streams.web.console.frame import Frame

HOME = "/overview"
BURST_S = 60.0


class Attempts:
    """How many logins an address may still try. Bounded; the oldest address is forgotten first."""

    def __init__(
        self, per_minute: float, addresses_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_minute / 60
        self._addresses_max = addresses_max
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, address: str) -> int:
        """0 when one more may be tried, else whole seconds until then."""
        now = self._clock()
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= self._addresses_max:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[address] = Bucket(self._per_second, BURST_S, now)
        wait_s = bucket.take(1.0, now)
        return int(wait_s) + 1 if wait_s else 0


class Login:
    """The login page and what its forms do."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        settings = frame.settings
        self._attempts = Attempts(settings.logins_per_minute, settings.login_addresses_max)

    def routes(self) -> list[web.RouteDef]:
        """Its routes."""
        return [
            web.get("/login", self.page),
            web.post("/login", self.log_in),
            web.post("/logout", self.log_out),
        ]

    async def page(self, request: web.Request) -> web.StreamResponse:
        """The form; straight on for whoever needs none."""
        try:
            asker = self._frame.access.asker(request)
        except ProblemError as error:
            return self._frame.refusal(request, "html", error.problem)
        if asker is not None:
            raise web.HTTPFound(_back(request.query.get("next", "")))
        return self._form(request, request.query.get("next", ""))

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """A session, for a key that works."""
        frame = self._frame
        try:
            fields = await frame.form(request, None)
        except ProblemError as error:
            return frame.refusal(request, "html", error.problem)
        back_to = fields.get("next", [""])[0]
        wait_s = self._attempts.take(request.remote or "")
        if wait_s:
            frame.metrics.logins.labels("too_many").inc()
            why = f"Too many attempts: try again in {wait_s} s."
            response = self._form(request, back_to, why, 429)
            response.headers["Retry-After"] = str(wait_s)
            return response
        key = frame.access.find(fields.get("key", [""])[0].strip())
        if key is None or "read" not in key.scopes:
            frame.metrics.logins.labels("refused").inc()
            why = "That key does not open these pages: it is wrong, revoked, expired or without"
            return self._form(request, back_to, f"{why} the scope read.", 401)
        frame.metrics.logins.labels("accepted").inc()
        back = web.HTTPFound(_back(back_to))
        cookie = frame.access.sessions.begin(key.key_id, frame.access.now_ms())
        frame.set_cookie(back, SESSION_COOKIE, cookie)
        raise back

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """Takes the session away."""
        frame = self._frame
        try:
            await frame.form(request, frame.access.asker(request))
        except ProblemError as error:
            return frame.refusal(request, "html", error.problem)
        response = web.HTTPFound("/login")
        response.del_cookie(SESSION_COOKIE, path="/")
        raise response

    def _form(
        self, request: web.Request, back: str, wrong: str = "", status: int = 200
    ) -> web.Response:
        return self._frame.html("login.html", request, None, status, wrong=wrong, back=back)


def _back(path: str) -> str:
    """A path of this server, or the first page."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else HOME
