"""``/o/TOKEN`` and ``/c/TOKEN``: a message was opened, a link in it was followed.

The token is signed by us and carries what it is about and, for a click, where it leads: there is
no open redirect, and nothing has to be looked up or believed. The person comes first: the picture
and the redirect are answered whether or not the receipt could be written. A repeat is harmless.

Mail scanners follow links too, so a click is evidence, not proof; HEAD is answered and not counted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from aiohttp import web

from streams import links
from streams.api import metrics
from streams.api.problems import ProblemError, refuse
from streams.api.records import Records
from streams.api.routes import Parameter, Reply, Route
from streams.api.settings import ApiSettings

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A transparent GIF of one pixel."""
TOKEN = Parameter("token", "path", "Signed by us.", required=True)


class TrackingRoutes:
    """Counts opens and clicks."""

    def __init__(self, settings: ApiSettings, records: Records, now_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._records = records
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="GET",
                path="/o/{token}",
                operation="open",
                doc="A picture that says that a message was opened.",
                handler=self.open,
                scope=None,
                tag="links",
                parameters=(TOKEN,),
                replies={200: Reply("A picture.", content_type="image/gif")},
                refusals=("bad_token",),
            ),
            Route(
                method="GET",
                path="/c/{token}",
                operation="click",
                doc="Leads to where a link in a message pointed.",
                handler=self.click,
                scope=None,
                tag="links",
                parameters=(TOKEN,),
                replies={302: Reply("There it is.", headers={"Location": "The link's target."})},
                refusals=("bad_token",),
            ),
        ]

    async def open(self, request: web.Request) -> web.Response:
        """The picture."""
        await self._note(request, "open", "seen")
        return web.Response(body=PIXEL, content_type="image/gif")

    async def click(self, request: web.Request) -> web.Response:
        """The redirect."""
        link = await self._note(request, "click", "clicked")
        if not links.is_web_url(link.target):
            raise refuse("bad_token", "This link leads nowhere.")
        headers = {"Location": link.target, "Referrer-Policy": "no-referrer"}
        return web.Response(status=302, headers=headers)

    async def _note(self, request: web.Request, purpose: links.Purpose, kind: str) -> links.Link:
        token = request.match_info["token"]
        link = links.verify(self._settings.link_secrets, purpose, token)
        if link is None:
            raise refuse("bad_token", "This link was not made here, or was changed.")
        if request.method != "HEAD":
            mapping = {
                "recipient_id": link.recipient_id,
                "kind": kind,
                "notification_id": link.notification_id or None,
                "delivery_id": link.delivery_id or None,
                "occurred_at_ms": self._now_ms(),
            }
            try:
                await self._records.write("receipt", [mapping])
                metrics.RECEIPTS.labels(purpose, "recorded").inc()
            except ProblemError:
                metrics.RECEIPTS.labels(purpose, "lost").inc()
        return link
