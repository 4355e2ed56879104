"""What pages ask: the ledger (this worker, or the partition's owner) and the decide workers.

Every look at a person is recorded before anything of it is shown; what cannot be recorded is not
shown. A partition in motion is a ``ProblemError`` 503 with ``Retry-After``, which the frame says on
the page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from streams.api.problems import ProblemError, refuse
from streams.api.state_client import StateClient
from streams.core.ids import partition_of
from streams.ledger.documents import SearchPage, Timeline, Totals, Trace
from streams.ledger.looks import LookLog, LookNotRecorded
from streams.ledger.queries import LedgerQueries
from streams.ledger.reasons import ReasonsQuestion, Step
from streams.ledger.search import SearchQuestion
from streams.partitioning import partition_of_recipient
from streams.web.console.page import Visit
from streams.web.decide_pages import PATH
from streams.web.ledger_pages import LedgerWeb
from streams.web.ledger_reading import Answer
from streams.web.recipient_view import RecipientDocument
from streams.web.table_view import TablePage

Document = TypeVar("Document")
COUNTS_KEPT_S = 0.9
"""How long the counts of a day are shown again; those of a month thirty times as long."""
COUNTS_KEPT_S_MAX = 30.0
COUNTS_MAX = 16
HOURS_AS_HOURS_MAX = 96
"""Longer times are counted by day."""


class Asking:
    """Questions of the pages. One per worker."""

    def __init__(
        self, ledger: LedgerWeb, states: StateClient, looks: LookLog, partitions: int
    ) -> None:
        self._ledger = ledger
        self._states = states
        self._looks = looks
        self._counts: dict[int, tuple[float, Totals]] = {}
        self._counting = asyncio.Lock()
        self.partitions = partitions

    async def note(
        self, visit: Visit, what: str, recipient_id: str, subject_id: str | None = None
    ) -> None:
        """Records a look. Raises ``ProblemError`` (503): then nothing may be shown."""
        try:
            await self._looks.note(
                visit.asker.key.key_id,
                what,
                recipient_id,
                subject_id=subject_id,
                revealed=visit.may_reveal,
            )
        except LookNotRecorded as error:
            detail = "The look could not be recorded, so nothing is shown."
            raise refuse("unavailable", detail, retry_after_s=1) from error

    async def note_all(self, visit: Visit, what: str, people: Iterable[str]) -> None:
        """Records a look at each of them. Raises ``ProblemError`` (503)."""
        every = dict.fromkeys(people)
        await asyncio.gather(*(self.note(visit, what, recipient_id) for recipient_id in every))

    # ------------------------------------------------------------------------------------ ledger

    def partition(self, recipient_id: str) -> int:
        """Where everything about a recipient is."""
        return partition_of_recipient(recipient_id, self.partitions)

    async def timeline(self, recipient_id: str, before: str | None, limit: int) -> Timeline:
        """A page of a recipient's history. Raises ``ProblemError``: 422, 503."""
        path = f"/v1/recipients/{_part(recipient_id)}/timeline?limit={limit}"
        if before:
            try:
                bytes.fromhex(before)
            except ValueError as error:
                raise refuse("invalid", "before is not a cursor of ours.") from error
            path += f"&before={_part(before)}"

        def answer(queries: LedgerQueries) -> Any:
            return queries.timeline(recipient_id, before, limit)

        found = await self._read(self.partition(recipient_id), path, answer, Timeline)
        assert found is not None, "a timeline may be empty, but it is always there"
        return found

    async def notification(self, public_id: str) -> Trace | None:
        """A trace by an id of ours. Raises ``ProblemError``: 404, 422, 503."""
        public_id = public_id.replace("-", "").lower()
        try:
            partition = partition_of(public_id)
        except ValueError as error:
            raise refuse("invalid", f"That is not an id of ours: {error}.") from error
        if partition >= self.partitions:
            raise refuse("not_found", f"There is no partition {partition}.")
        path = f"/v1/notifications/{_part(public_id)}"
        return await self._read(partition, path, lambda q: q.notification(public_id), Trace)

    async def event(self, recipient_id: str, event_id: str) -> Trace | None:
        """A trace by a producer's id. Raises ``ProblemError`` (503)."""
        path = f"/v1/events/{_part(recipient_id)}/{_part(event_id)}"
        partition = self.partition(recipient_id)
        return await self._read(partition, path, lambda q: q.event(recipient_id, event_id), Trace)

    async def counts(self, hours: int) -> Totals:
        """Counts by hour, over all partitions that answer; a moment old, longer for longer times.

        Reading a month takes a while, and live pages ask again and again.
        """
        async with self._counting:
            known = self._counts.get(hours)
            if known is not None and time.monotonic() < known[0]:
                return known[1]
            totals = await self._count(hours)
            if len(self._counts) >= COUNTS_MAX:
                del self._counts[next(iter(self._counts))]
            kept_s = min(COUNTS_KEPT_S_MAX, COUNTS_KEPT_S * max(1.0, hours / 24))
            self._counts[hours] = time.monotonic() + kept_s, totals
            return totals

    async def _count(self, hours: int) -> Totals:
        step: Step = "hour" if hours <= HOURS_AS_HOURS_MAX else "day"
        asked = ReasonsQuestion(hours=hours, step=step)
        return await self._ledger.read_everywhere(
            f"/v1/reasons?hours={hours}&step={step}", lambda queries: queries.reasons(asked)
        )

    async def search(self, asked: SearchQuestion) -> SearchPage:
        """What fits, newest first. Raises ``ProblemError`` (503) where one partition is asked."""
        wanted = {
            "recipient": asked.recipient_id, "event_id": asked.event_id,
            "category": asked.category, "channel": asked.channel, "verdict": asked.verdict,
            "reason": asked.reason, "from": asked.from_ms or None, "before": asked.before_ms,
            "limit": asked.limit,
        }  # fmt: skip
        path = "/v1/search?" + urlencode({n: v for n, v in wanted.items() if v is not None})
        if asked.recipient_id is None:
            return await self._ledger.search_everywhere(path, asked)
        partition = self.partition(asked.recipient_id)
        found = await self._read(partition, path, lambda q: q.search(asked), SearchPage)
        assert found is not None, "a search may find nothing, but it is always answered"
        return found

    async def _read(
        self, partition: int, path: str, answer: Answer, kind: type[Document]
    ) -> Document | None:
        return _decoded(await self._ledger.read(partition, path, answer), kind)

    # ------------------------------------------------------------------------------------ decide

    async def recipient(self, recipient_id: str) -> RecipientDocument:
        """All that is remembered of a recipient, unmasked. Raises ``ProblemError`` (503)."""
        path = f"{PATH}/recipients/{_part(recipient_id)}"
        said = await self._states.of_partition("GET", self.partition(recipient_id), path)
        return msgspec.json.decode(said.body, type=RecipientDocument)

    async def recipient_or_why_not(self, recipient_id: str) -> tuple[RecipientDocument | None, str]:
        """As ``recipient``; while the partition moves, ``None`` and why."""
        try:
            return await self.recipient(recipient_id), ""
        except ProblemError as error:
            if error.problem.status != 503:
                raise
            return None, error.problem.detail

    async def table(
        self, partition: int, kind: str, prefix: str, after: str, limit: int
    ) -> TablePage:
        """Some pairs of a partition's state, unmasked. Raises ``ProblemError``: 422, 503."""
        path = (
            f"{PATH}/tables/state?partition={partition}&kind={_part(kind)}&prefix={_part(prefix)}"
            f"&after={_part(after)}&limit={limit}"
        )
        said = await self._states.of_partition("GET", partition, path)
        return msgspec.json.decode(said.body, type=TablePage)


def _decoded(response: web.Response, kind: type[Document]) -> Document | None:
    """A worker's answer as a document. Raises ``ProblemError`` for anything but 200 and 404."""
    body = response.body if isinstance(response.body, bytes) else b""
    if response.status == 200:
        return msgspec.json.decode(body, type=kind)
    if response.status == 404:
        return None
    if response.status == 503:
        said = _error_in(body)
        wait_s = response.headers.get("Retry-After", "1")
        raise refuse("unavailable", said, retry_after_s=int(wait_s) if wait_s.isdigit() else 1)
    raise refuse("unavailable", f"The owner answered {response.status}.", retry_after_s=1)


def _error_in(body: bytes) -> str:
    try:
        text = str(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "The partition does not answer at the moment."
    return text[:1].upper() + text[1:] + "."


def _part(text: str) -> str:
    return quote(text, safe="")
