"""Asking a ledger worker over HTTP. Any worker will do: it passes the question on to the owner."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from streams.ledger.directory import SECRET_HEADER
from streams.ledger.documents import Timeline, Totals, Trace

Document = TypeVar("Document")
CALL_S_MAX = 5.0
UNAVAILABLE_S_MAX = 15.0
"""How long a ledger that is catching up is asked again."""
RETRY_S_MAX = 5.0


class LedgerError(Exception):
    """The ledger does not answer, or refuses; the text says why, for people."""


class LedgerClient:
    """Use as ``async with LedgerClient(url) as client``."""

    def __init__(
        self, url: str, unavailable_s_max: float = UNAVAILABLE_S_MAX, internal_secret: str = ""
    ) -> None:
        """``internal_secret``: the configuration's, where the ledger asks who it is."""
        self.url = url.rstrip("/")
        self._headers = {SECRET_HEADER: internal_secret} if internal_secret else {}
        self._unavailable_s_max = unavailable_s_max
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> LedgerClient:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CALL_S_MAX), headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def event(self, recipient_id: str, event_id: str) -> Trace | None:
        """Trace of an event; ``None`` when nothing is recorded about it."""
        path = f"/v1/events/{_part(recipient_id)}/{_part(event_id)}"
        return await self._get(path, Trace)

    async def notification(self, public_id: str) -> Trace | None:
        """Trace of a notification, digest, or what a delivery belongs to."""
        return await self._get(f"/v1/notifications/{_part(public_id)}", Trace)

    async def timeline(self, recipient_id: str, before: str | None = None) -> Timeline:
        """A page of a recipient's history, newest first."""
        path = f"/v1/recipients/{_part(recipient_id)}/timeline"
        page = await self._get(path + (f"?before={_part(before)}" if before else ""), Timeline)
        if page is None:
            raise LedgerError(f"{self.url} has no timelines; is it a ledger worker?")
        return page

    async def totals(self) -> Totals:
        """Counts since the beginning."""
        totals = await self._get("/v1/totals", Totals)
        if totals is None:
            raise LedgerError(f"{self.url} has no totals; is it a ledger worker?")
        return totals

    async def _get(self, path: str, kind: type[Document]) -> Document | None:
        """Asks until there is an answer; waits out a 503 for a while, as ``Retry-After`` says."""
        assert self._session is not None, "use it as a context manager"
        deadline = time.monotonic() + self._unavailable_s_max
        while True:
            try:
                async with self._session.get(self.url + path) as response:
                    status, body = response.status, await response.read()
                    retry_after = response.headers.get("Retry-After", "1")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = str(error) or type(error).__name__
                raise LedgerError(f"no ledger answers at {self.url}: {why}") from error
            if status == 200:
                return _decode(body, kind, self.url)
            if status == 404:
                return None
            if status != 503 or time.monotonic() > deadline:
                raise LedgerError(f"the ledger at {self.url} says {status}: {_why(body)}")
            await asyncio.sleep(min(RETRY_S_MAX, float(retry_after or 1)))


def _decode(body: bytes, kind: type[Document], url: str) -> Document:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise LedgerError(f"{url} does not answer as a ledger does: {error}") from error


def _why(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body)
        return str(said["error"] if "error" in said else said["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


def _part(text: str) -> str:
    return quote(text, safe="")
