"""Notification: one trace from the event to the receipt, with the time that each step took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.api.problems import refuse
from streams.api.routes import RECIPIENT, Parameter
from streams.ledger.documents import Trace
from streams.ledger.explain import headline
from streams.web.console.asking import Asking
from streams.web.console.charts import Step
from streams.web.console.page import Page, Visit, entry_row

PUBLIC_ID = Parameter(
    "public_id", "path", "Id of a notification, a digest or a delivery: 32 hexadecimal digits.",
    required=True,
)  # fmt: skip
EVENT_ID = Parameter("event_id", "path", "The producer's id of the event.", required=True)
VERDICTS_AS_STEPS = {
    "held": "held", "digested": "gathered", "delivering": "to the sink",
    "retrying": "waiting for the next attempt", "escalating": "to the next channel",
}  # fmt: skip

RANKS = {"arrived": 0, "held": 1, "digested": 1, "delivering": 1, "escalating": 1, "retrying": 3}
"""Which comes first of what happened in the same millisecond (on stream time, all of it)."""
ANSWER_RANK = 2


class StepDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of the trace, and how long it took until the next."""

    at_ms: int
    what: str
    why: str
    lasts_ms: int | None
    """``None`` for the last."""


class NotificationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A trace, told."""

    headline: str
    trace: Trace
    steps: list[StepDocument]
    total_ms: int | None
    """From the first moment to the last; ``None`` for one moment only."""


class NotificationPages:
    """The pages: by our id, and by the producer's."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/notifications/{public_id}",
                operation="notification",
                title="Notification",
                doc="Everything about one notification or digest, oldest first.",
                template="notification.html",
                document=NotificationPage,
                load=self.by_id,
                rows=rows,
                parameters=(PUBLIC_ID,),
            ),
            Page(
                path="/recipients/{recipient_id}/events/{event_id}",
                operation="event",
                title="Notification",
                doc="Everything about one event of a recipient, by the producer's id.",
                template="notification.html",
                document=NotificationPage,
                load=self.by_event,
                rows=rows,
                parameters=(RECIPIENT, EVENT_ID),
            ),
        ]

    async def by_id(self, visit: Visit) -> NotificationPage:
        """By our id. Raises ``ProblemError``: 404, 422, 503."""
        trace = await self._asking.notification(visit.arguments["public_id"])
        return await self._told(visit, trace)

    async def by_event(self, visit: Visit) -> NotificationPage:
        """By the producer's id. Raises ``ProblemError``: 404, 503."""
        recipient_id = visit.recipient_id()
        trace = await self._asking.event(recipient_id, visit.arguments["event_id"])
        return await self._told(visit, trace)

    async def _told(self, visit: Visit, trace: Trace | None) -> NotificationPage:
        if trace is None:
            raise refuse(
                "not_found",
                "Nothing is recorded about it: it has not arrived, is on another cluster, or is"
                " older than the ledger.",
            )
        await self._asking.note(visit, "notification", trace.recipient_id, trace.subject_id)
        return page_of(trace)


def page_of(trace: Trace) -> NotificationPage:
    """The trace with its steps. Pure."""
    moments = sorted(_moments(trace), key=lambda m: (m[0], RANKS.get(m[1], ANSWER_RANK)))
    found = []
    for place, (at_ms, what, why) in enumerate(moments):
        is_last = place + 1 == len(moments)
        lasts_ms = None if is_last else moments[place + 1][0] - at_ms
        found.append(StepDocument(at_ms=at_ms, what=what, why=why, lasts_ms=lasts_ms))
    total_ms = moments[-1][0] - moments[0][0] if len(moments) > 1 else None
    return NotificationPage(headline=headline(trace), trace=trace, steps=found, total_ms=total_ms)


def _moments(trace: Trace) -> Iterable[tuple[int, str, str]]:
    """(when, what, why) of everything, in no order."""
    appended = min((o.appended_at_ms for o in trace.outcomes if o.appended_at_ms), default=None)
    if appended is not None:
        yield appended, "arrived", "Kafka acknowledged the event."
    for entry in trace.entries:
        yield entry.decided_at_ms, entry.verdict, entry.sentence
    for outcome in trace.outcomes:
        why = f"{outcome.provider} ({outcome.channel}) answered after {outcome.send_ms:.0f} ms"
        if outcome.reason and outcome.reason != outcome.status:
            why += f": {outcome.reason}"
        yield outcome.answered_at_ms, outcome.status, f"{why}."
    for receipt in trace.receipts:
        yield receipt.occurred_at_ms, f"receipt: {receipt.kind}", "The recipient's side says so."


def chart_steps(document: NotificationPage) -> list[Step]:
    """What the chart shows: every step that took time. Pure."""
    return [
        Step(VERDICTS_AS_STEPS.get(step.what, step.what), step.at_ms, float(step.lasts_ms))
        for step in document.steps
        if step.lasts_ms is not None and step.lasts_ms > 0
    ]


def rows(document: NotificationPage) -> Iterable[dict[str, Any]]:
    """Verdicts for CSV."""
    return [entry_row(entry) for entry in document.trace.entries]
