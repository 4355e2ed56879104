"""What a deliver worker says of its providers: rate against budget, breaker, answers, times.

``GET /v1/deliver/providers`` (``DeliverStatus``), for the pages of the ledger workers. In memory,
since this worker began; a worker that was started again begins anew and says since when.

Invariant: nothing of a person is in it: names of the configuration and of campaigns, reasons,
numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web

from streams.api.problems import answer as problem_answer
from streams.api.problems import problem
from streams.core.model import Delivery
from streams.sinks.base import Answer
from streams.web.deliver_documents import DeliverStatus, ProviderStatus
from streams.web.internal import NOT_A_WORKER, is_worker
from streams.web.rolling import Rolling

PATH = "/v1/deliver/providers"
RATE_MINUTES = 1
SWITCHES_SHOWN_MAX = 200
"""Kill switches that are named; that there are more is said by their number."""


class Providers(Protocol):
    """The part of ``sinks.dispatch.Dispatcher`` that is shown."""

    def all(self) -> list[Any]:
        """Every provider."""


class DeliverPages:
    """The page of one deliver worker, and what it remembers for it."""

    def __init__(
        self,
        internal_secret: str,
        is_stream: bool,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``is_stream``: events have times of long ago, so how long they took cannot be said."""
        self._secret = internal_secret
        self._is_stream = is_stream
        self._now_ms = now_ms
        self._since_ms = now_ms()
        self._rolling = Rolling()
        self._providers: Providers | None = None
        self._is_killed: Callable[[str], bool] = lambda name: False
        self._switches: Callable[[], frozenset[str]] = frozenset

    def show(
        self,
        providers: Providers,
        is_killed: Callable[[str], bool],
        switches: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """Says whose state is shown; ``switches``: scopes of the kill switches that are on."""
        self._providers, self._is_killed, self._switches = providers, is_killed, switches

    def answered(self, delivery: Delivery, answer: Answer, now_ms: int) -> None:
        """Remembers one answer."""
        status = answer.outcome.status
        late_ms = None
        if status == "accepted" and not self._is_stream:
            late_ms = max(0, now_ms - delivery.appended_at_ms)
        self._rolling.add(
            now_ms,
            answer.provider,
            status,
            getattr(answer.outcome, "reason", ""),
            answer.send_ms,
            delivery.priority,
            late_ms,
        )

    def mount(self, faust_app: Any) -> None:
        """Adds the page to a worker's web server, before it starts."""
        faust_app.web.web_app.router.add_get(PATH, self.page)

    async def page(self, request: web.Request) -> web.Response:
        """The status, for workers."""
        if not is_worker(request, self._secret):
            return problem_answer(problem("unauthenticated", NOT_A_WORKER))
        body = msgspec.json.encode(self.status())
        return web.Response(body=body, content_type="application/json")

    def status(self) -> DeliverStatus:
        """As of now."""
        now_ms = self._now_ms()
        rolling, switches = self._rolling, self._switches()
        return DeliverStatus(
            since_ms=self._since_ms,
            now_ms=now_ms,
            providers=[self._status(one) for one in self._providers.all()]
            if self._providers is not None
            else [],
            minute=rolling.window(now_ms, RATE_MINUTES + 1),
            hour=rolling.window(now_ms, 60),
            day=rolling.window(now_ms, 24 * 60),
            minutes=rolling.minutes(now_ms, 60),
            kill_switches=sorted(switches)[:SWITCHES_SHOWN_MAX],
            kill_switch_count=len(switches),
        )

    def _status(self, provider: Any) -> ProviderStatus:
        bucket = provider.bucket
        return ProviderStatus(
            name=provider.name,
            kind=provider.kind,
            breaker=provider.breaker.state,
            is_killed=self._is_killed(provider.name),
            in_flight=provider.in_flight,
            in_flight_max=provider.settings.in_flight_max,
            budget_per_second=None if bucket is None else bucket.per_second,
            quota_per_second=provider.settings.quota_per_second,
            weight=provider.settings.weight,
        )
