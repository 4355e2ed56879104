"""Overview: what comes in, what goes out, what was withheld and why, and how fast it is.

Counts by hour are the ledger's (durable, exact, up to the newest decision); rates, breakers and
times are what the workers say of the last hour. Where a partition does not answer, the page says
that its numbers are not all there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streams.api.routes import Parameter
from streams.ledger.documents import Count
from streams.ledger.rows import DAY_MS, EVENT, HOUR_MS
from streams.web.console import providers
from streams.web.console.asking import HOURS_AS_HOURS_MAX, Asking
from streams.web.console.charts import Series, by_time
from streams.web.console.fleet import Fleet
from streams.web.console.page import Page, Visit

HOURS_DEFAULT = 24
CHOICES = ((1, "last hour"), (24, "last day"), (168, "last week"), (744, "last month"),
           (8_760, "last year"))  # fmt: skip
WITHHELD = frozenset({"suppressed", "dropped", "expired", "cancelled", "dead_lettered"})
HOURS = Parameter("hours", "query", "How far back, up to the newest decision.", int)


class Slot(msgspec.Struct, frozen=True):
    """One row of the table under a chart."""

    start_ms: int
    name: str
    count: int


class ChartDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A chart: a value of each series for each time."""

    title: str
    times_ms: list[int]
    series: list[Series]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(one.total for one in self.series)


class ReasonTotal(msgspec.Struct, frozen=True):
    """How often something was withheld for a reason."""

    verdict: str
    reason: str
    count: int


class OverviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the system in one look."""

    hours: int
    choices: list[tuple[int, str]]
    """Other times that can be asked for, in hours."""
    until_ms: int | None
    """End of the newest hour (or day) with anything in it; ``None``: nothing was recorded yet."""
    slot_ms: int
    is_complete: bool
    """False: some partitions do not answer at the moment."""
    partitions_answering: int
    partitions: int
    events: int
    accepted: int
    withheld: int
    refused: int
    """Answers of providers that were no yes."""
    digested_events: int
    digests: int
    charts: list[ChartDocument]
    reasons: list[ReasonTotal]
    now: providers.ProvidersDocument

    @property
    def refused_percent(self) -> float:
        """Share of the answers that were no yes."""
        total = self.accepted + self.refused
        return 100 * self.refused / total if total else 0.0


class OverviewPages:
    """The page."""

    def __init__(self, asking: Asking, fleet: Fleet, hours_max: int) -> None:
        """``hours_max``: how far back the ledger counts when it is asked."""
        self._hours_max = hours_max
        self._asking = asking
        self._fleet = fleet

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/overview",
                operation="overview",
                title="Overview",
                doc="Events in, messages out, what was withheld and why, digests, latency.",
                template="overview.html",
                document=OverviewPage,
                load=self.load,
                rows=rows,
                parameters=(HOURS,),
                is_live=True,
                in_navigation=True,
            )
        ]

    async def load(self, visit: Visit) -> OverviewPage:
        """Counts of the ledger, and what the deliver workers say."""
        hours = visit.whole("hours", HOURS_DEFAULT, 1, self._hours_max)
        totals = await self._asking.counts(hours)
        now = providers.document_of(await self._fleet.status())
        answering, partitions = len(totals.partitions), self._asking.partitions
        return page_of(totals.counts, hours, now, answering, partitions, self._hours_max)


def page_of(
    counts: Sequence[Count],
    hours: int,
    now: providers.ProvidersDocument,
    answering: int,
    partitions: int,
    hours_max: int,
) -> OverviewPage:
    """The page from counts by hour. Pure."""
    newest = max((c.hour_ms for c in counts if c.hour_ms is not None), default=None)
    slot_ms = HOUR_MS if hours <= HOURS_AS_HOURS_MAX else DAY_MS
    times_ms = _times(newest, hours, slot_ms)
    oldest = min((c.hour_ms for c in counts if c.hour_ms is not None), default=0)
    times_ms = [at_ms for at_ms in times_ms if at_ms + slot_ms > oldest]
    charts = [] if newest is None else _charts(counts, times_ms, slot_ms)
    reasons: dict[tuple[str, str], int] = {}
    for one in counts:
        if one.what in WITHHELD:
            key = one.what, one.reason
            reasons[key] = reasons.get(key, 0) + one.count
    return OverviewPage(
        hours=hours,
        choices=[(n, name) for n, name in CHOICES if n <= hours_max],
        until_ms=None if newest is None else newest + slot_ms,
        slot_ms=slot_ms,
        is_complete=answering == partitions,
        partitions_answering=answering,
        partitions=partitions,
        events=_sum(counts, EVENT),
        accepted=_sum(counts, "answer:accepted"),
        withheld=sum(reasons.values()),
        refused=sum(
            c.count for c in counts if c.what.startswith("answer:") and c.what != "answer:accepted"
        ),
        digested_events=_sum(counts, "digested"),
        digests=_sum(counts, "digest_closed"),
        charts=charts,
        reasons=[
            ReasonTotal(verdict, reason, count)
            for (verdict, reason), count in sorted(
                reasons.items(), key=lambda pair: (-pair[1], pair[0])
            )
        ],
        now=now,
    )


def _times(newest: int | None, hours: int, slot_ms: int) -> list[int]:
    """Starts of the slots, oldest first; ``newest`` is the last one's."""
    if newest is None:
        return []
    places = -(-hours * HOUR_MS // slot_ms)
    first = newest - (places - 1) * slot_ms
    return [first + place * slot_ms for place in range(places)]


def _charts(counts: Sequence[Count], times_ms: list[int], slot_ms: int) -> list[ChartDocument]:
    def chart(title: str, of: dict[tuple[int, str], float]) -> ChartDocument:
        return ChartDocument(title=title, times_ms=times_ms, series=by_time(of, times_ms))

    def gather(kept: Any, name: Any) -> dict[tuple[int, str], float]:
        found: dict[tuple[int, str], float] = {}
        for one in counts:
            if one.hour_ms is None or not kept(one):
                continue
            place = (one.hour_ms - times_ms[0]) // slot_ms
            if 0 <= place < len(times_ms):
                key = times_ms[place], name(one)
                found[key] = found.get(key, 0) + one.count
        return found

    return [
        chart("Events in, by category", gather(lambda c: c.what == EVENT, lambda c: c.category)),
        chart(
            "Messages out, by channel",
            gather(lambda c: c.what == "answer:accepted", lambda c: c.channel),
        ),
        chart("Withheld, by reason", gather(lambda c: c.what in WITHHELD, lambda c: c.reason)),
        chart(
            "Digests: events gathered and messages made of them",
            gather(
                lambda c: c.what in ("digested", "digest_closed"),
                lambda c: "events gathered" if c.what == "digested" else "digests sent",
            ),
        ),
        chart(
            "Answers of providers: failed or refused",
            gather(
                lambda c: c.what.startswith("answer:") and c.what != "answer:accepted",
                lambda c: c.reason,
            ),
        ),
    ]


def _sum(counts: Sequence[Count], what: str) -> int:
    return sum(one.count for one in counts if one.what == what)


def rows(document: OverviewPage) -> Iterable[dict[str, Any]]:
    """Every chart's numbers for CSV."""
    for chart in document.charts:
        for series in chart.series:
            for at_ms, value in zip(chart.times_ms, series.values, strict=True):
                if value:
                    yield {
                        "chart": chart.title,
                        "start_ms": at_ms,
                        "series": series.name,
                        "count": int(value),
                    }
