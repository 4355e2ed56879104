"""Search: from whatever somebody has in hand to the page that explains it.

An id of ours leads straight to its notification, a recipient to theirs, a recipient with an event
id to that event. Anything else (an event id alone, a reason, a category, a channel, a time) is
searched in the ledger of every partition, page by page, newest first.

Invariant: every person whose verdicts are on a page is recorded as looked at before it is shown.
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
from streams.ledger.documents import SearchHit
from streams.ledger.search import LATEST_MS, SearchQuestion
from streams.web.console.asking import Asking
from streams.web.console.page import Page, Visit
from streams.web.console.render import segment

OUR_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PARAMETERS = (
    Parameter("q", "query", "A recipient, or an id of a notification, digest or delivery."),
    Parameter("recipient", "query", "Whose."),
    Parameter("event_id", "query", "The producer's id of an event."),
    Parameter("reason", "query", "Only verdicts with this reason."),
    Parameter("category", "query", "Only of this category."),
    Parameter("since", "query", "Not before this: 2026-03-01 or 2026-03-01T09:00, UTC."),
    Parameter("until", "query", "Before this."),
    Parameter("cursor", "query", "Go on here: the cursor of the page before.", int),
    Parameter("channel", "query", "Only deliveries on this channel."),
    Parameter("verdict", "query", "Only this verdict: suppressed, held, delivering, ..."),
)


class SearchDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and what fits."""

    q: str = ""
    recipient: str = ""
    event_id: str = ""
    reason: str = ""
    category: str = ""
    since: str = ""
    until: str = ""
    channel: str = ""
    verdict: str = ""
    hits: list[SearchHit] = []
    cursor: int | None = None
    """Time before which to go on; ``None`` when this was all."""
    is_asked: bool = False
    looked_at: int = 0
    """Decisions that were looked at for this page."""
    is_complete: bool = True
    """False when a partition did not answer: what it knows is missing."""
    bulk_kept_share: float = 1.0
    """Below 1, of bulk categories only this share of notifications is kept."""


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
                where = f"/recipients/{segment(recipient)}/events/{segment(asked.event_id)}"
                raise web.HTTPFound(where)
            if not _has_more(asked):
                raise web.HTTPFound(f"/recipients/{segment(recipient)}")
        elif not (asked.event_id or _has_more(asked)):
            return asked
        return await self._look(visit, asked, recipient)

    async def _look(self, visit: Visit, asked: SearchDocument, recipient: str) -> SearchDocument:
        cursor = visit.whole("cursor", LATEST_MS, 0, LATEST_MS)
        question = SearchQuestion(
            recipient_id=recipient or None,
            event_id=asked.event_id or None,
            category=asked.category or None,
            channel=asked.channel or None,
            verdict=asked.verdict or None,
            reason=asked.reason or None,
            from_ms=_time("since", asked.since) or 0,
            before_ms=min(cursor, _time("until", asked.until) or LATEST_MS),
            limit=self._rows_max,
        )
        if recipient:
            await self._asking.note(visit, "search", recipient)
        page = await self._asking.search(question)
        if not recipient:
            people = (hit.recipient_id for hit in page.hits)
            await self._asking.note_all(visit, "search", people)
        return msgspec.structs.replace(
            asked,
            hits=page.hits,
            cursor=page.before_ms,
            is_asked=True,
            looked_at=page.looked_at,
            is_complete=page.is_complete,
            bulk_kept_share=page.bulk_kept_share,
        )


def _has_more(asked: SearchDocument) -> bool:
    """Whether anything but a recipient and an event narrows it down."""
    return bool(
        asked.reason or asked.category or asked.channel or asked.verdict or asked.since
        or asked.until
    )  # fmt: skip


def _asked(visit: Visit) -> SearchDocument:
    text = visit.text
    return SearchDocument(
        q=text("q"),
        recipient=text("recipient"),
        event_id=text("event_id"),
        reason=text("reason"),
        category=text("category"),
        channel=text("channel"),
        verdict=text("verdict"),
        since=text("since"),
        until=text("until"),
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
