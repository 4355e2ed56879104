"""Recipient: what they chose and which cell decides, what waits, and everything that happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.api.routes import RECIPIENT, Parameter
from streams.ledger.documents import Timeline, TimelineItem
from streams.web.console.asking import Asking
from streams.web.console.masking import masked_recipient
from streams.web.console.page import Page, Visit, entry_row
from streams.web.recipient_view import RecipientDocument

ROWS_MAX = 200
BEFORE = Parameter("before", "query", "Go on after this: the cursor of the page before.")
LIMIT = Parameter("limit", "query", "How many rows at most.", int)


class RecipientPage(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient, and a page of their history."""

    recipient_id: str
    state: RecipientDocument | None
    """``None`` while the partition's state moves or is restored; the history is still there."""
    state_error: str = ""
    timeline: Timeline
    before: str = ""
    """The cursor that this page began after."""


class RecipientPages:
    """The page."""

    def __init__(self, asking: Asking, rows_max: int) -> None:
        self._asking = asking
        self._rows_max = rows_max

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/recipients/{recipient_id}",
                operation="recipient",
                title="Recipient",
                doc="Choices, what waits, limits in use, and the history of one recipient."
                " Addresses and bodies are masked without the scope reveal.",
                template="recipient.html",
                document=RecipientPage,
                load=self.load,
                rows=rows,
                parameters=(RECIPIENT, BEFORE, LIMIT),
            )
        ]

    async def load(self, visit: Visit) -> RecipientPage:
        """State from the decide worker, history from the ledger."""
        recipient_id = visit.recipient_id()
        before = visit.text("before")
        limit = visit.whole("limit", self._rows_max, 1, ROWS_MAX)
        await self._asking.note(visit, "recipient", recipient_id)
        timeline = await self._asking.timeline(recipient_id, before or None, limit)
        state, wrong = await self._asking.recipient_or_why_not(recipient_id)
        if state is not None and not visit.may_reveal:
            state = masked_recipient(state)
        return RecipientPage(
            recipient_id=recipient_id,
            state=state,
            state_error=wrong,
            timeline=timeline,
            before=before,
        )


def rows(document: RecipientPage) -> Iterable[dict[str, Any]]:
    """The history for CSV: a row for each verdict, answer and receipt."""
    for item in document.timeline.items:
        yield from _item_rows(item)


def _item_rows(item: TimelineItem) -> Iterable[dict[str, Any]]:
    columns = {
        "time_ms": item.time_ms, "kind": "", "what": "", "reason": "", "category": "",
        "event_id": None, "subject_id": None, "channel": "", "provider": "", "sentence": "",
    }  # fmt: skip
    for entry in item.entries or ():
        row = entry_row(entry)
        yield {
            **columns,
            **{name: row[name] for name in columns if name in row},
            "kind": "decision",
            "what": entry.verdict,
        }
    if (outcome := item.outcome) is not None:
        yield {
            **columns,
            "kind": "answer",
            "what": outcome.status,
            "reason": outcome.reason,
            "category": outcome.category,
            "subject_id": outcome.notification_id,
            "channel": outcome.channel,
            "provider": outcome.provider,
        }
    if (receipt := item.receipt) is not None:
        yield {
            **columns,
            "kind": "receipt",
            "what": receipt.kind,
            "event_id": receipt.event_id,
            "subject_id": receipt.notification_id,
        }
