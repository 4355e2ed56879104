"""``DELETE /v1/events/{id}``: withdraw what has not been handed over, and hear whether it worked.

The cancellation is written, then its own decision is waited for; when that takes longer than
``cancel_ms_max`` the answer is 202: accepted, and the ledger will say. A repeat of a cancellation
that worked is answered as the first was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from aiohttp import web

from streams import topics
from streams.api.decision_tail import DecisionTail
from streams.api.problems import ProblemError, refuse
from streams.api.records import Records
from streams.api.routes import Parameter, Reply, Route, check_name, reply
from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.web.state_documents import Name


class Cancelled(msgspec.Struct, frozen=True):
    """What became of a cancellation."""

    status: Literal["cancelled", "remembered", "pending"]
    """``remembered``: no such event yet; should it arrive within a day, it is cancelled.
    ``pending``: accepted and not decided yet."""
    event_id: str
    detail: str


DETAILS = {
    "cancelled": "It will not be sent.",
    "remembered": "No such event has been decided yet; it will be cancelled when it arrives.",
    "pending": "Accepted; look at the recipient's notifications for what became of it.",
}


class CancelRoutes:
    """Withdraws events."""

    def __init__(
        self,
        settings: ApiSettings,
        records: Records,
        states: StateClient,
        tail: DecisionTail,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._records = records
        self._states = states
        self._tail = tail
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="DELETE",
                path="/v1/events/{event_id}",
                operation="cancelEvent",
                doc="Withdraw an event that has not been handed to a provider.",
                handler=self.cancel,
                scope="produce",
                tag="events",
                parameters=(
                    Parameter("event_id", "path", "The event.", Name, required=True),
                    Parameter("recipient_id", "query", "Whom it was for.", Name, required=True),
                ),
                replies={
                    200: Reply("It was cancelled.", Cancelled),
                    202: Reply("Accepted: remembered or pending.", Cancelled),
                },
                refusals=("too_late", "invalid", "unavailable"),
            )
        ]

    async def cancel(self, request: web.Request) -> web.Response:
        """Writes the cancellation and waits for its decision."""
        event_id = request.match_info["event_id"]
        recipient_id = request.query.get("recipient_id")
        if recipient_id is None:
            raise refuse("invalid", "Say whom the event was for: ?recipient_id=...")
        check_name("event_id", event_id)
        check_name("recipient_id", recipient_id)
        mapping = {
            "recipient_id": recipient_id,
            "event_id": event_id,
            "requested_at_ms": self._now_ms(),
        }
        partition = self._states.partition(recipient_id)
        async with self._tail.watch(partition, topics.CANCELLATIONS) as watch:
            (place,) = await self._records.write("cancellation", [mapping])
            deciding = asyncio.create_task(
                watch.entries(place, self._settings.cancel_ms_max / 1000)
            )
            try:
                # A repeat is decided without a word: the ledger knows what the first one did.
                if await self._was_cancelled(partition, recipient_id, event_id, deciding):
                    return _said("cancelled", event_id)
                entries = await deciding
            finally:
                deciding.cancel()
        reasons = {entry["reason"] for entry in entries if entry["event_id"] == event_id}
        if "cancelled" in reasons:
            return _said("cancelled", event_id)
        if "too_late_to_cancel" in reasons:
            raise refuse("too_late", "It had been handed over, or had ended, before.")
        return _said("remembered" if "cancel_remembered" in reasons else "pending", event_id)

    async def _was_cancelled(
        self, partition: int, recipient_id: str, event_id: str, deciding: asyncio.Task[Any]
    ) -> bool:
        """Whether the ledger knows it to be cancelled; ``False`` as soon as the decision is in."""
        asking = asyncio.create_task(self._ask_ledger(partition, recipient_id, event_id))
        try:
            await asyncio.wait({asking, deciding}, return_when=asyncio.FIRST_COMPLETED)
            if deciding.done() and deciding.result():
                return False
            return await asking
        finally:
            asking.cancel()

    async def _ask_ledger(self, partition: int, recipient_id: str, event_id: str) -> bool:
        path = f"/v1/events/{quote(recipient_id, safe='')}/{quote(event_id, safe='')}"
        try:
            said = await self._states.of_ledger(partition, path)
            if said.status != 200:
                return False
            state = msgspec.json.decode(said.body, type=_Traced).status.state
        except (ProblemError, msgspec.DecodeError):
            return False
        return state == "cancelled"


class _State(msgspec.Struct):
    state: str


class _Traced(msgspec.Struct):
    status: _State


def _said(status: Literal["cancelled", "remembered", "pending"], event_id: str) -> web.Response:
    document = Cancelled(status, event_id, DETAILS[status])
    return reply(document, 200 if status == "cancelled" else 202)
