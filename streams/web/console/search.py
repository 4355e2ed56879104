"""Search: from whatever somebody has in hand to the page that explains it.

An id of ours leads straight to its notification, a recipient to theirs, a recipient with an event
id to that event. A recipient with a reason, a category or a time lists what fits of their history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from streams.api.problems import refuse
from streams.api.routes import Parameter, check_name
from streams.ledger.documents import TraceEntry
from streams.web.console.asking import Asking
from streams.web.console.page import Page, Visit
from streams.web.console.render import segment

OUR_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LOOKS_MAX = 10
"""Pages of a history that one search reads; the cursor goes on."""
ROWS_EACH = 200
PARAMETERS = (
    Parameter("q", "query", "A recipient, or an id of a notification, digest or delivery."),
    Parameter("recipient", "query", "Whose."),
    Parameter("event_id", "query", "The producer's id of an event."),
    Parameter("reason", "query", "Only verdicts with this reason."),
    Parameter("category", "query", "Only of this category."),
    Parameter("since", "query", "Not before this: 2026-03-01 or 2026-03-01T09:00, UTC."),
    Parameter("until", "query", "Before this."),
    Parameter("cursor", "query", "Go on here: the cursor of the page before."),
)


class HitDocument(msgspec.Struct, frozen=True):
    """One verdict that fits."""

    recipient_id: str
    entry: TraceEntry


class SearchDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and what fits."""

    q: str = ""
    recipient: str = ""
    event_id: str = ""
    reason: str = ""
    category: str = ""
    since: str = ""
    until: str = ""
    hits: list[HitDocument] = []
    cursor: str | None = None
    is_asked: bool = False
    hint: str = ""
    """What to do, where nothing could be looked for."""


class SearchPages:
    """The page."""

    def __init__(self, asking: Asking, rows_max: int) -> None:
        self._asking = asking
        self._rows_max = rows_max

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/search",
                operation="search",
                title="Search",
                doc="By recipient, event id, our ids, reason, category and time.",
                template="search.html",
                document=SearchDocument,
                load=self.load,
                rows=rows,
                parameters=PARAMETERS,
                in_navigation=True,
            )
        ]

    async def load(self, visit: Visit) -> SearchDocument:
        """Straight on where there is one answer, else what fits. Raises ``ProblemError``."""
        asked = _asked(visit)
        if OUR_ID.fullmatch(asked.q):
            raise web.HTTPFound(f"/notifications/{asked.q.replace('-', '').lower()}")
        recipient = asked.recipient or asked.q
        if recipient:
            check_name("recipient", recipient)
            if asked.event_id:
                raise web.HTTPFound(f"/recipients/{segment(recipient)}/events/"
                                    f"{segment(asked.event_id)}")  # fmt: skip
            if not (asked.reason or asked.category or asked.since or asked.until):
                raise web.HTTPFound(f"/recipients/{segment(recipient)}")
            return await self._of_recipient(visit, asked, recipient)
        if asked.event_id:
            return msgspec.structs.replace(
                asked, hint="An event id is the producer's and unique for a recipient: name the"
                " recipient too.",
            )  # fmt: skip
        return asked

    async def _of_recipient(
        self, visit: Visit, asked: SearchDocument, recipient: str
    ) -> SearchDocument:
        since_ms, until_ms = _time("since", asked.since), _time("until", asked.until)
        await self._asking.note(visit, "search", recipient)
        hits: list[HitDocument] = []
        before = visit.text("cursor") or None
        for _ in range(LOOKS_MAX):
            page = await self._asking.timeline(recipient, before, ROWS_EACH)
            for item in page.items:
                hits += [
                    HitDocument(recipient, entry)
                    for entry in reversed(item.entries or [])
                    if _fits(entry, asked, since_ms, until_ms)
                ]
            before = page.before
            is_past = page.items and since_ms is not None and page.items[-1].time_ms < since_ms
            if before is None or is_past or len(hits) >= self._rows_max:
                before = None if is_past else before
                break
        return msgspec.structs.replace(asked, hits=hits, cursor=before, is_asked=True)


def _asked(visit: Visit) -> SearchDocument:
    text = visit.text
    return SearchDocument(
        q=text("q"),
        recipient=text("recipient"),
        event_id=text("event_id"),
        reason=text("reason"),
        category=text("category"),
        since=text("since"),
        until=text("until"),
    )


def _fits(
    entry: TraceEntry, asked: SearchDocument, since_ms: int | None, until_ms: int | None
) -> bool:
    return (
        asked.reason in ("", entry.reason)
        and asked.category in ("", entry.category)
        and (since_ms is None or entry.decided_at_ms >= since_ms)
        and (until_ms is None or entry.decided_at_ms < until_ms)
    )


def _time(name: str, text: str) -> int | None:
    """A UTC time as milliseconds. Raises ``ProblemError`` (422)."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise refuse("invalid", f"{name} must be like 2026-03-01 or 2026-03-01T09:00.") from error
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def rows(document: SearchDocument) -> Iterable[dict[str, Any]]:
    """Hits for CSV."""
    for hit in document.hits:
        entry = hit.entry
        yield {
            "recipient_id": hit.recipient_id,
            "decided_at_ms": entry.decided_at_ms,
            "verdict": entry.verdict,
            "reason": entry.reason,
            "category": entry.category,
            "event_id": entry.event_id,
            "subject_id": entry.subject_id,
            "sentence": entry.sentence,
        }
