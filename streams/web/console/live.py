"""Pages that show themselves anew: server-sent events with the page's ``live`` block as HTML.

The block is rendered again every ``live_ms`` and sent when it differs from what was sent before;
a small script puts it in place. Without the script a page is what it was when it was loaded.

Invariants: at most ``live_streams_max`` streams at once and none longer than
``live_stream_ms_max``; whoever asks is asked again who they are at each step, so that a revoked key
sees nothing more.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import msgspec
from aiohttp import web

from streams.api.problems import ProblemError, refuse
from streams.web.console import render
from streams.web.console.frame import Frame
from streams.web.console.page import Page, Visit

RETRY_MS = 5_000
KEEP_ALIVE = b": still here\n\n"
KEEP_ALIVE_S = 15.0


class Live:
    """Keeps open pages up to date."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._stopping = asyncio.Event()
        self._open = 0
        frame.stream = self.stream

    def stop(self) -> None:
        """Ends every stream, so that the server can stop."""
        self._stopping.set()

    async def stream(self, page: Page, visit: Visit) -> web.StreamResponse:
        """One page, as long as somebody looks at it. Raises ``ProblemError``: 503."""
        settings = self._frame.settings
        if self._open >= settings.live_streams_max or self._stopping.is_set():
            raise refuse("unavailable", "Too many live pages at once.", retry_after_s=30)
        response = web.StreamResponse(
            headers={**render.HTTP_HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
        )
        self._open += 1
        try:
            await response.prepare(visit.request)
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            with contextlib.suppress(ConnectionError):
                await self._send(page, visit, response)
        finally:
            self._open -= 1
        return response

    async def _send(self, page: Page, visit: Visit, response: web.StreamResponse) -> None:
        settings = self._frame.settings
        until = time.monotonic() + settings.live_stream_ms_max / 1000
        sent, sent_at = "", time.monotonic()
        while time.monotonic() < until and not self._stopping.is_set():
            try:
                html = await self._block(page, visit)
            except ProblemError as error:
                if error.problem.status in (401, 403):
                    return
                html = sent  # not now: what is shown stays until there is something newer
            if html != sent:
                # JSON keeps line breaks out of the event's data line.
                await response.write(b"data: " + msgspec.json.encode(html) + b"\n\n")
                sent, sent_at = html, time.monotonic()
            elif time.monotonic() - sent_at > KEEP_ALIVE_S:
                await response.write(KEEP_ALIVE)
                sent_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), settings.live_ms / 1000)

    async def _block(self, page: Page, visit: Visit) -> str:
        """The block as it is now. Raises ``ProblemError``."""
        again = self._frame.visit(visit.request, page.scope)
        document = await page.load(again)
        return self._frame.block(
            page.template, "live", visit.request, again.asker, visit=again, page=page, doc=document
        )
