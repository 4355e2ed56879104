"""Providers: rate against budget, breaker, how long they take, and what they refuse with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from streams.web.console.charts import Series
from streams.web.console.fleet import Fleet, FleetStatus
from streams.web.console.page import Page, Visit
from streams.web.deliver_documents import DeliverStatus, ProviderStatus, Window
from streams.web.rolling import MINUTE_MS, added, percentile_ms

WORST = ("closed", "half_open", "open")
CHART_MINUTES = 60


class ReasonCount(msgspec.Struct, frozen=True):
    """How often a provider answered so in the last hour."""

    status: str
    reason: str
    count: int


class ProviderDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One provider over all deliver workers."""

    name: str
    kind: str
    breaker: str
    """The worst of any worker: ``closed``, ``half_open`` or ``open``."""
    breakers_open: int
    workers: int
    is_killed: bool
    in_flight: int
    per_second: float
    """Accepted a second over the last minute."""
    budget_per_second: float | None
    quota_per_second: float | None
    accepted_hour: int
    failed_hour: int
    """Answers of the last hour that were neither accepted nor a refusal of one address."""
    accepted_day: int
    p50_ms: int | None
    p99_ms: int | None
    reasons: list[ReasonCount]

    @property
    def failed_percent(self) -> float:
        """Share of the last hour's answers that were failures."""
        total = self.accepted_hour + self.failed_hour
        return 100 * self.failed_hour / total if total else 0.0


class LatencyDocument(msgspec.Struct, frozen=True):
    """From the event's append to a provider's yes."""

    priority: str
    count: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class ProvidersDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    at_ms: int
    since_ms: int | None
    """Since when the workers remember; ``None`` when none answers."""
    silent_workers: list[str]
    kill_switches: list[str]
    """Scopes of the kill switches that are on by any worker's word, of every sort, in order."""
    kill_switch_count: int
    """How many are on: more than are named, if there are very many."""
    providers: list[ProviderDocument]
    latencies: list[LatencyDocument]
    """Over the last hour, by priority."""
    latencies_day: list[LatencyDocument]
    times_ms: list[int]
    accepted: list[Series]
    """Accepted a minute, by provider."""
    failed: list[Series]


class ProviderPages:
    """The page."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/providers",
                operation="providers",
                title="Providers",
                doc="Each provider: rate, budget, breaker, latency, errors by reason.",
                template="providers.html",
                document=ProvidersDocument,
                load=self.load,
                rows=rows,
                is_live=True,
                in_navigation=True,
            )
        ]

    async def load(self, visit: Visit) -> ProvidersDocument:
        """As of a moment ago."""
        return document_of(await self._fleet.status())


def document_of(fleet: FleetStatus) -> ProvidersDocument:
    """What the deliver workers said, by provider. Pure."""
    workers = fleet.of("deliver")
    said = [worker.deliver for worker in workers if worker.deliver is not None]
    by_name: dict[str, list[ProviderStatus]] = {}
    for one in said:
        for provider in one.providers:
            by_name.setdefault(provider.name, []).append(provider)
    switches = {scope for one in said for scope in one.kill_switches}
    switches |= {f"provider:{p.name}" for one in said for p in one.providers if p.is_killed}
    last = fleet.at_ms // MINUTE_MS
    times_ms = [(last - CHART_MINUTES + 1 + n) * MINUTE_MS for n in range(CHART_MINUTES)]
    return ProvidersDocument(
        at_ms=fleet.at_ms,
        since_ms=min((one.since_ms for one in said), default=None),
        silent_workers=[worker.url for worker in workers if worker.deliver is None],
        kill_switches=sorted(switches),
        kill_switch_count=max([len(switches), *(one.kill_switch_count for one in said)]),
        providers=[_provider(name, its, said) for name, its in sorted(by_name.items())],
        latencies=_latencies([one.hour for one in said]),
        latencies_day=_latencies([one.day for one in said]),
        times_ms=times_ms,
        accepted=_series(said, times_ms, "accepted"),
        failed=_series(said, times_ms, "other"),
    )


def _provider(
    name: str, statuses: list[ProviderStatus], said: list[DeliverStatus]
) -> ProviderDocument:
    hour: Counter[tuple[str, str]] = Counter()
    for one in said:
        for count in one.hour.answers:
            if count.provider == name:
                hour[count.status, count.reason] += count.count
    budgets = [one.budget_per_second for one in statuses if one.budget_per_second is not None]
    times = added(times for one in said for times in one.hour.send_times).get(name, [])
    return ProviderDocument(
        name=name,
        kind=statuses[0].kind,
        breaker=max((one.breaker for one in statuses), key=WORST.index),
        breakers_open=sum(one.breaker != "closed" for one in statuses),
        workers=len(statuses),
        is_killed=any(one.is_killed for one in statuses),
        in_flight=sum(one.in_flight for one in statuses),
        per_second=_per_second(name, said),
        budget_per_second=sum(budgets) if budgets else None,
        quota_per_second=statuses[0].quota_per_second,
        accepted_hour=sum(n for (status, _), n in hour.items() if status == "accepted"),
        failed_hour=sum(n for (status, _), n in hour.items() if status in FAILURES),
        accepted_day=sum(
            count.count
            for one in said
            for count in one.day.answers
            if count.provider == name and count.status == "accepted"
        ),
        p50_ms=percentile_ms(times, 0.5),
        p99_ms=percentile_ms(times, 0.99),
        reasons=[
            ReasonCount(status, reason, count)
            for (status, reason), count in hour.most_common()
            if status != "accepted"
        ],
    )


FAILURES = frozenset({"retry", "ambiguous"})
"""What a provider failed at; a rejection or an address that is gone is an answer."""


def _per_second(name: str, said: list[DeliverStatus]) -> float:
    """Over the last full minute and what has passed of this one."""
    total = 0.0
    for one in said:
        window_s = (MINUTE_MS + one.now_ms % MINUTE_MS) / 1000
        window_s = max(1.0, min(window_s, (one.now_ms - one.since_ms) / 1000))
        total += (
            sum(
                count.count
                for count in one.minute.answers
                if count.provider == name and count.status == "accepted"
            )
            / window_s
        )
    return round(total, 1)


def _latencies(windows: list[Window]) -> list[LatencyDocument]:
    merged = added(times for window in windows for times in window.event_times)
    return [
        LatencyDocument(
            priority, sum(counts), percentile_ms(counts, 0.5), percentile_ms(counts, 0.95),
            percentile_ms(counts, 0.99),
        )
        for priority, counts in sorted(merged.items())
    ]  # fmt: skip


def _series(said: list[DeliverStatus], times_ms: list[int], which: str) -> list[Series]:
    counts: dict[tuple[int, str], int] = {}
    for one in said:
        for minute in one.minutes:
            for name, count in getattr(minute, which).items():
                key = minute.start_ms, name
                counts[key] = counts.get(key, 0) + count
    names = sorted({name for _, name in counts})
    return [Series(name, [counts.get((at, name), 0) for at in times_ms]) for name in names]


def rows(document: ProvidersDocument) -> Iterable[dict[str, Any]]:
    """Rows for CSV."""
    for one in document.providers:
        yield {
            "name": one.name,
            "kind": one.kind,
            "breaker": one.breaker,
            "per_second": one.per_second,
            "budget_per_second": one.budget_per_second,
            "quota_per_second": one.quota_per_second,
            "in_flight": one.in_flight,
            "accepted_hour": one.accepted_hour,
            "failed_hour": one.failed_hour,
            "accepted_day": one.accepted_day,
            "p50_ms": one.p50_ms,
            "p99_ms": one.p99_ms,
        }
