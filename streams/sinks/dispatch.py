"""Chooses a provider for a delivery and sends it: the meeting of sinks, breakers and budgets.

Asking (``reserve``) and sending (``send``) are two steps, because a lane must know *before* it
takes a delivery out of its queue whether any provider would have it now: while the answer is
``Wait`` the delivery stays where it can still expire, be replaced or be killed.

Invariants: every reservation ends in ``send`` or ``release``; ``send`` never raises for what a
provider or a network does; nothing is tried twice here, but for one renewal of our own expired
credentials, which the provider has said not to have processed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from collections.abc import Callable

from msgspec.structs import replace

from streams.core.model import Delivery
from streams.sinks.base import (
    Accepted,
    Ambiguous,
    Answer,
    Failure,
    Outcome,
    Rejected,
    Retry,
    Unregistered,
    Wait,
    classify_failure,
)
from streams.sinks.budgets import share_of
from streams.sinks.health import POINTS_MAX
from streams.sinks.providers import Provider
from streams.templates.rendered import Rendered

QUOTA_PAUSE_MS = 1_000
"""After a refusal for quota that named no time."""
BUSY_WAIT_MS = 20
DIGITS = re.compile(r"\+?(?:\d[ ().-]?){6,}\d")
MAIL = re.compile(r"[^\s<>@]+@[^\s<>@]+")

log = logging.getLogger(__name__)


class Dispatcher:
    """All providers of one worker."""

    def __init__(
        self,
        providers: dict[str, list[Provider]],
        partitions: int,
        is_killed: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._providers = providers
        self._partitions = partitions
        self._is_killed = is_killed

    async def start(self) -> None:
        """Opens every provider's transport."""
        for provider in self.all():
            await provider.transport.start()

    async def stop(self) -> None:
        """Closes every provider's transport."""
        for provider in self.all():
            await provider.transport.stop()

    def all(self) -> list[Provider]:
        """Every provider, for metrics and budgets."""
        return [provider for providers in self._providers.values() for provider in providers]

    def own(self, partitions: int, now_ms: int) -> None:
        """This worker owns so many partitions now: its guaranteed share of each quota."""
        for provider in self.all():
            quota = provider.settings.quota_per_second
            if provider.bucket is not None and quota is not None:
                rate = share_of(quota, self._partitions, partitions)
                provider.bucket.set_rate(rate, now_ms)

    def reserve(self, delivery: Delivery, now_ms: int) -> Provider | Wait | Rejected:
        """A provider that takes the delivery now; how long to wait; or that there is none.

        With none, the queue goes on: DECIDE keeps the delivery as a dead letter (``no_provider``).
        """
        candidates = self._candidates(delivery, now_ms)
        if not candidates:
            return Rejected("no_provider", f"none is configured for {delivery.kind}")
        wait_ms, reason = 60_000, "killed"
        for provider in candidates:
            if self._is_killed(provider.name):
                continue
            paced_ms = provider.pace.wait_ms(delivery.address, now_ms)
            if paced_ms:
                return Wait(paced_ms, "destination_pace", alone=True)
            wait = self._try(provider, now_ms)
            if wait is None:
                provider.in_flight += 1
                provider.pace.sent(delivery.address, now_ms)
                return provider
            if wait.for_ms < wait_ms or reason == "killed":
                wait_ms, reason = min(wait.for_ms, wait_ms), wait.reason
        return Wait(wait_ms, reason)

    def release(self, provider: Provider) -> None:
        """A reservation that is not used after all."""
        provider.in_flight -= 1
        provider.breaker.abandoned()
        if provider.bucket is not None:
            provider.bucket.give_back()

    async def send(self, provider: Provider, delivery: Delivery, rendered: Rendered) -> Answer:
        """Sends through a reserved provider. The reservation ends here, however it ends."""
        began = time.perf_counter()
        outcome: Outcome | None = None
        try:
            outcome = await self._attempt(provider, delivery, rendered)
            if isinstance(outcome, Retry) and outcome.renew:
                outcome = await self._attempt(provider, delivery, rendered)
        finally:
            provider.in_flight -= 1
            if outcome is None:
                provider.breaker.abandoned()
        send_ms = (time.perf_counter() - began) * 1000
        self._learn(provider, outcome, send_ms)
        return Answer(_without_addresses(outcome, delivery), provider.name, send_ms)

    async def _attempt(self, provider: Provider, delivery: Delivery, rendered: Rendered) -> Outcome:
        now_ms = _now_ms()
        credentials = await provider.credentials.current(delivery, now_ms)
        if isinstance(credentials, Retry):
            return credentials
        request = provider.sink.build_request(delivery, rendered, credentials, now_ms)
        if isinstance(request, Outcome):
            return request
        reply = await provider.transport.send(request)
        if isinstance(reply, Failure):
            return classify_failure(reply)
        now_ms = _now_ms()
        outcome = provider.sink.classify(delivery, reply, now_ms)
        if isinstance(outcome, Retry) and outcome.renew:
            renewed = provider.credentials.renew(credentials, now_ms)
            outcome = outcome if renewed else replace(outcome, renew=False)
        return self._believed(provider, outcome, now_ms)

    def _believed(self, provider: Provider, outcome: Outcome, now_ms: int) -> Outcome:
        """The outcome, unless it would cost an address and the provider says that too often."""
        guard, before = provider.prune_guard, provider.prune_guard.holding
        quarantines = isinstance(outcome, Rejected) and outcome.quarantine
        believed = guard.believes(quarantines or isinstance(outcome, Unregistered), now_ms)
        if guard.holding and not before:
            log.error(
                "%s: calls so many addresses gone that none is removed any more (see the"
                " provider's prune settings)", provider.name,
            )  # fmt: skip
        elif before and not guard.holding:
            log.warning("%s: is believed again when it calls an address gone", provider.name)
        if believed:
            return outcome
        if isinstance(outcome, Rejected):
            return replace(outcome, quarantine=False)
        return Retry("prune_held", provider.settings.prune.retry_ms, detail=outcome.detail)

    def _learn(self, provider: Provider, outcome: Outcome, send_ms: float) -> None:
        """What an answer says about the provider itself."""
        now_ms, breaker = _now_ms(), provider.breaker
        before = breaker.state
        failed = isinstance(outcome, Ambiguous)
        if isinstance(outcome, Retry):
            failed = outcome.blame in ("provider", "credentials")
        provider.health.answered(send_ms, failed, now_ms)
        if isinstance(outcome, Ambiguous):
            breaker.failed(now_ms)
        elif not isinstance(outcome, Retry) or outcome.blame == "destination":
            breaker.succeeded(now_ms)
        elif outcome.blame == "quota":
            breaker.pause(now_ms + (outcome.after_ms or QUOTA_PAUSE_MS))
        else:
            breaker.failed(now_ms)
        if breaker.state != before:
            if breaker.state == "open":
                provider.health.collapsed()
            log.warning("%s: breaker %s (%s)", provider.name, breaker.state, outcome.reason)

    def _try(self, provider: Provider, now_ms: int) -> Wait | None:
        if provider.in_flight >= provider.settings.in_flight_max:
            return Wait(BUSY_WAIT_MS, "busy")
        if not provider.breaker.permits(now_ms):
            at_ms = provider.breaker.retry_at_ms(now_ms)
            return Wait(max(1, at_ms - now_ms) if at_ms is not None else BUSY_WAIT_MS, "breaker")
        if provider.bucket is not None:
            wait_ms = provider.bucket.take(now_ms)
            if wait_ms is not None:
                provider.breaker.abandoned()
                return Wait(wait_ms, "budget")
        return None

    def _candidates(self, delivery: Delivery, now_ms: int) -> list[Provider]:
        """Providers in the order to ask them in: by weight, stably for one attempt.

        Weighted rendezvous hashing: each provider draws from the attempt's id and the largest
        wins, so shares follow the weights and another attempt may fall elsewhere. One that does
        badly is asked last for as many attempts as it lacks points of health.
        """
        providers = self._providers.get(delivery.kind, [])
        named = delivery.attributes.get("provider")
        if named:
            providers = [p for p in providers if p.name == named] or providers
        if len(providers) <= 1:
            return providers
        key = f"{delivery.delivery_id}/{delivery.epoch}/{delivery.attempt}/"
        return sorted(providers, key=lambda p: _rank(key + p.name, p, now_ms), reverse=True)


def _rank(key: str, provider: Provider, now_ms: int) -> tuple[bool, float]:
    """(asked in its usual place, draw by weight): the largest is asked first."""
    points = provider.health.look(now_ms)
    well = points >= POINTS_MAX or _uniform(key + "/well") * POINTS_MAX < points
    weight = provider.settings.weight
    return well, math.log(_uniform(key)) / weight if weight > 0 else -math.inf


def _uniform(key: str) -> float:
    """Above 0, below 1, always the same for a key."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / (2**64 + 1)


def _without_addresses(outcome: Outcome, delivery: Delivery) -> Outcome:
    """Providers like to quote the address in their messages; outcomes never hold one."""
    if isinstance(outcome, Accepted) or not outcome.detail:
        return outcome
    detail = outcome.detail.replace(delivery.address, "[address]")
    return replace(outcome, detail=MAIL.sub("[address]", DIGITS.sub("[number]", detail)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
