"""``POST /v1/receipts``: what an app saw happen: seen, clicked, or something of its own business.

Each is about a notification that the ledger knows to be the recipient's, or it is refused: an
unknown id makes no record. A business event may be about the recipient alone. Repeats and disorder
are harmless: a receipt says what happened, and it happened once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from streams.api import metrics
from streams.api.known import Known
from streams.api.problems import Problem, answer, problem, refuse
from streams.api.records import Records
from streams.api.routes import ALLOWANCE, ITEMS, JSON, Reply, Route, check_type, decode_body, reply
from streams.api.settings import ApiSettings
from streams.web.state_documents import Name, TimeMs

PublicId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
LOOKUPS_MAX = 16
"""Ids of one request that are looked up at once."""


class ReceiptDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evidence from an app. ``seen`` and ``clicked`` need an id; ``business`` needs a name."""

    recipient_id: Name
    kind: Literal["seen", "clicked", "business"]
    occurred_at_ms: TimeMs
    notification_id: PublicId | None = None
    delivery_id: PublicId | None = None
    event_id: Name | None = None
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class ReceiptAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one receipt."""

    index: int
    status: int
    problem: Problem | None = None


class ReceiptsAnswer(msgspec.Struct, frozen=True):
    """What became of the receipts of a request, in their order."""

    accepted: int
    refused: int
    items: list[ReceiptAnswer]


class ReceiptRoutes:
    """Takes receipts of apps."""

    def __init__(
        self,
        settings: ApiSettings,
        records: Records,
        known: Known,
        monotonic: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._records = records
        self._known = known
        self._monotonic = monotonic

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="POST",
                path="/v1/receipts",
                operation="sendReceipts",
                doc="Say that notifications were seen or clicked, or what else happened.",
                handler=self.send,
                scope="produce",
                tag="receipts",
                body=ReceiptDocument | Annotated[list[ReceiptDocument], Meta(min_length=1)],
                is_large=True,
                replies={
                    202: Reply("Acknowledged.", (ReceiptAnswer, ReceiptsAnswer)),
                    207: Reply("Some were accepted; each says so.", ReceiptsAnswer),
                    422: Reply("None can be accepted as it is.", ReceiptsAnswer),
                    404: Reply("None is about anything known.", ReceiptsAnswer),
                },
                refusals=("not_found", "invalid", "unavailable"),
            )
        ]

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Takes the receipts of a request."""
        check_type(request, JSON)
        body = await request.read()
        is_batch = body.lstrip()[:1] == b"["
        if is_batch:
            documents = decode_body(body, list[ReceiptDocument])
        else:
            documents = [decode_body(body, ReceiptDocument)]
        limit = self._settings.items_max
        if len(documents) > limit:
            raise refuse("too_large", f"At most {limit} receipts in one request.")
        if not documents:
            raise refuse("invalid", "The array is empty: send at least one receipt.")
        request[ITEMS] = len(documents)
        wait_s = request[ALLOWANCE].take_events(len(documents), self._monotonic())
        if wait_s:
            raise refuse("too_many_requests", "Send them again later.", retry_after_s=wait_s)
        gate = asyncio.Semaphore(LOOKUPS_MAX)
        found = await asyncio.gather(*(self._checked(each, gate) for each in documents))
        mappings = [each for each in found if not isinstance(each, Problem)]
        if mappings:
            await self._records.write("receipt", mappings)
        metrics.RECEIPTS.labels("app", "accepted").inc(len(mappings))
        metrics.RECEIPTS.labels("app", "refused").inc(len(found) - len(mappings))
        items = [
            ReceiptAnswer(place, each.status, each)
            if isinstance(each, Problem)
            else ReceiptAnswer(place, 202)
            for place, each in enumerate(found)
        ]
        return _of_batch(items) if is_batch else _of_one(items[0])

    async def _checked(
        self, document: ReceiptDocument, gate: asyncio.Semaphore
    ) -> Mapping[str, Any] | Problem:
        """The receipt as it is written, or why not."""
        wrong = _wrong(document)
        if wrong is not None:
            return wrong
        mapping: dict[str, Any] = msgspec.structs.asdict(document)
        public_id = document.notification_id or document.delivery_id
        if public_id is None and document.event_id is None:
            return mapping
        async with gate:
            if public_id is not None:
                about = await self._known.by_id(public_id)
            else:
                assert document.event_id is not None
                about = await self._known.by_event(document.recipient_id, document.event_id)
        if about is None or about.recipient_id != document.recipient_id:
            return problem("not_found", "The recipient has no such notification.")
        return {
            **mapping,
            "notification_id": about.notification_id,
            "event_id": about.event_id,
            "delivery_id": about.delivery_id,
            "destination_id": about.destination_id,
        }


def _wrong(document: ReceiptDocument) -> Problem | None:
    has_id = document.notification_id or document.delivery_id or document.event_id
    if document.kind == "business" and document.name is None:
        return problem("invalid", "A business event needs its name.")
    if document.kind != "business" and not has_id:
        detail = f"Say what was {document.kind}: notification_id, delivery_id or event_id."
        return problem("invalid", detail)
    try:
        for text in (document.recipient_id, document.event_id or "", document.name or ""):
            if len(text.encode()) > 256:
                return problem("invalid", "An id has at most 256 bytes.")
    except UnicodeEncodeError:
        return problem("invalid", "An id is not UTF-8.")
    return None


def _of_one(item: ReceiptAnswer) -> web.Response:
    return reply(item, 202) if item.problem is None else answer(item.problem)


def _of_batch(items: list[ReceiptAnswer]) -> web.Response:
    accepted = sum(item.status == 202 for item in items)
    statuses = {item.status for item in items}
    status = statuses.pop() if len(statuses) == 1 else 207
    return reply(ReceiptsAnswer(accepted, len(items) - accepted, items), status)
