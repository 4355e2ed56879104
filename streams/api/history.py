"""What became of things, and what would: notifications from the ledger, previews from the core.

Both are answered by the worker that owns the recipient; nothing is kept here. A look at a person's
history is recorded before it is answered, with the recipient hashed and the key named.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from streams.api.destinations import masked
from streams.api.looking import noted
from streams.api.problems import refuse
from streams.api.routes import (
    KEY,
    RECIPIENT,
    Parameter,
    Reply,
    Route,
    read_body,
    recipient_of,
    reply,
)
from streams.api.state_client import StateClient
from streams.ledger.documents import Timeline, TimelineItem
from streams.ledger.looks import LookLog
from streams.web.decide_pages import PATH
from streams.web.state_documents import Preview, PreviewRequest

ROWS_DEFAULT = 100
ROWS_MAX = 200
Limit = Annotated[int, Meta(ge=1, le=ROWS_MAX)]
Cursor = Annotated[str, Meta(pattern="^([0-9a-f]{2}){1,64}$", max_length=128)]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened to a notification."""

    at_ms: int
    what: str
    """A verdict, ``answer`` of a provider, or ``receipt``."""
    reason: str = ""
    sentence: str = ""
    channel: str = ""
    until_ms: int | None = None


class NotificationSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One notification or digest, with its steps on this page, newest first."""

    notification_id: str
    latest_at_ms: int
    category: str = ""
    event_id: str | None = None
    digest_id: str | None = None
    steps: list[Step] = []


class Notifications(msgspec.Struct, frozen=True):
    """A page of a recipient's notifications, newest first."""

    recipient_id: str
    notifications: list[NotificationSummary]
    before: str | None
    """Pass it back as ``before`` to go on; ``null`` when this was all."""


class HistoryRoutes:
    """Looks back, and ahead."""

    def __init__(self, states: StateClient, looks: LookLog) -> None:
        self._looks = looks
        self._states = states

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="GET",
                path="/v1/recipients/{recipient_id}/notifications",
                operation="getNotifications",
                doc="What a recipient got or did not get, with the reasons, newest first.",
                handler=self.notifications,
                scope="read",
                tag="history",
                parameters=(
                    RECIPIENT,
                    Parameter("before", "query", "Where the page before ended.", Cursor),
                    Parameter("limit", "query", "How many steps to look at.", Limit),
                ),
                replies={200: Reply("A page.", Notifications)},
                refusals=("malformed", "invalid", "unavailable"),
            ),
            Route(
                method="POST",
                path="/v1/preview",
                operation="preview",
                doc="What would become of an event, and why. Nothing is sent or changed.",
                handler=self.preview,
                scope="read",
                tag="history",
                body=PreviewRequest,
                replies={200: Reply("What would happen.", Preview)},
                refusals=("invalid", "unavailable"),
            ),
        ]

    async def notifications(self, request: web.Request) -> web.Response:
        """A page of history."""
        recipient_id = recipient_of(request)
        query = {"limit": str(_limit(request))}
        if "before" in request.query:
            try:
                query["before"] = msgspec.convert(request.query["before"], Cursor)
            except msgspec.ValidationError as error:
                raise refuse("malformed", "before is not a cursor of ours.") from error
        await noted(self._looks, request, "notifications", recipient_id)
        path = f"/v1/recipients/{quote(recipient_id, safe='')}/timeline?{urlencode(query)}"
        said = await self._states.of_ledger(self._states.partition(recipient_id), path)
        if said.status == 400:
            raise refuse("malformed", "before is not a cursor of ours.")
        if said.status != 200:
            raise refuse("unavailable", "The ledger could not answer.", retry_after_s=1)
        timeline = msgspec.json.decode(said.body, type=Timeline)
        return reply(Notifications(recipient_id, folded(timeline), timeline.before))

    async def preview(self, request: web.Request) -> web.Response:
        """A dry run on the owner."""
        asked = await read_body(request, PreviewRequest)
        partition = self._states.partition(asked.event.recipient_id)
        body = msgspec.json.encode(asked)
        said = await self._states.of_partition("POST", partition, f"{PATH}/preview", body)
        found = msgspec.json.decode(said.body, type=Preview)
        if "reveal" not in request[KEY].scopes:
            hidden = [
                msgspec.structs.replace(each, address=masked(each.kind, each.address))
                for each in found.deliveries
            ]
            found = msgspec.structs.replace(found, deliveries=hidden)
        return reply(found)


def folded(timeline: Timeline) -> list[NotificationSummary]:
    """Rows of a timeline by the notification that they are about, in the order of their newest."""
    found: dict[str, NotificationSummary] = {}
    for item in timeline.items:
        for about, step in _steps(item):
            known = found.get(about.notification_id)
            if known is None:
                known = found[about.notification_id] = about
            known.steps.append(step)
            if about.event_id and not known.event_id:
                found[about.notification_id] = msgspec.structs.replace(
                    known, event_id=about.event_id, category=known.category or about.category
                )
    return list(found.values())


def _steps(item: TimelineItem) -> list[tuple[NotificationSummary, Step]]:
    at_ms = item.time_ms
    if item.entries is not None:
        return [
            (
                NotificationSummary(
                    e.subject_id, at_ms, e.category, e.event_id, e.digest_id, steps=[]
                ),
                Step(at_ms, e.verdict, e.reason, e.sentence, until_ms=e.until_ms),
            )
            for e in reversed(item.entries)
        ]
    if item.outcome is not None:
        o = item.outcome
        about = NotificationSummary(o.notification_id, at_ms, o.category, steps=[])
        return [(about, Step(at_ms, "answer", f"{o.status}: {o.reason}", "", o.channel))]
    r = item.receipt
    if r is None or r.notification_id is None:
        return []
    about = NotificationSummary(r.notification_id, at_ms, "", r.event_id, steps=[])
    return [(about, Step(at_ms, "receipt", r.kind))]


def _limit(request: web.Request) -> int:
    text = request.query.get("limit")
    if text is None:
        return ROWS_DEFAULT
    if (
        not text.isascii()
        or not text.isdigit()
        or not 1 <= int(text[:9]) <= ROWS_MAX
        or len(text) > 9
    ):
        raise refuse("invalid", f"limit must be a whole number from 1 to {ROWS_MAX}.")
    return int(text)
