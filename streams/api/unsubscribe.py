"""``/u/TOKEN``: one click and the mail stops (RFC 8058).

POST acts, whoever sends it and without cookies: the mail program does it for the person. GET, which
every scanner follows, shows a page with one button and changes nothing. What the link is about is
in the token that we signed. The click goes to the log as a receipt, so it holds once Kafka has it,
whether or not the recipient's worker answers; it becomes a choice against exactly this category on
this channel, which shows in the preferences, and they can take it back. The answer waits a moment
for that, so that whoever looks next sees it.

Source: https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from aiohttp import web

from streams.api.pages import page
from streams.api.problems import ProblemError
from streams.api.records import Records
from streams.api.routes import FORM, Parameter, Reply, Route
from streams.api.state_client import StateClient
from streams.sinks import unsubscribe
from streams.sinks.settings import UnsubscribeSettings
from streams.web.state_documents import RecipientPreferences

VISIBLE_S_MAX = 0.6
VISIBLE_POLL_S = 0.02
MULTIPART = "multipart/form-data"
TOKEN = Parameter("token", "path", "Signed by us.", required=True)
CHANNEL_NAMES = {
    "push": "push notification",
    "sms": "text message",
    "email": "e-mail",
    "webhook": "webhook",
    "chat": "chat",
}


class UnsubscribeRoutes:
    """Takes people at their word."""

    def __init__(
        self,
        settings: UnsubscribeSettings,
        records: Records,
        states: StateClient,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._records = records
        self._states = states
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        html = Reply("A page.", content_type="text/html")
        bad = Reply("Not one of our links.", content_type="text/html")
        return [
            Route(
                method="GET",
                path="/u/{token}",
                operation="unsubscribePage",
                doc="Asks whether to unsubscribe; changes nothing.",
                handler=self.ask,
                scope=None,
                tag="links",
                parameters=(TOKEN,),
                replies={200: html, 400: bad},
            ),
            Route(
                method="POST",
                path="/u/{token}",
                operation="unsubscribe",
                doc="Unsubscribes (RFC 8058): List-Unsubscribe=One-Click.",
                handler=self.act,
                scope=None,
                tag="links",
                parameters=(TOKEN,),
                body=dict[str, str],
                body_types=(FORM, MULTIPART),
                replies={
                    200: html,
                    400: bad,
                    503: Reply("Not possible at the moment.", content_type="text/html"),
                },
            ),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """The page with the button."""
        subject = unsubscribe.verify(self._settings, request.match_info["token"])
        if subject is None:
            return _not_ours()
        channel = CHANNEL_NAMES.get(subject.channel, subject.channel)
        return page("unsubscribe.html", category=subject.category, channel=channel)

    async def act(self, request: web.Request) -> web.Response:
        """The click."""
        subject = unsubscribe.verify(self._settings, request.match_info["token"])
        if subject is None:
            return _not_ours()
        if not await _is_one_click(request):
            return page(
                "message.html",
                400,
                title="That was not a click to unsubscribe",
                text="Expected the form field List-Unsubscribe=One-Click.",
            )
        cell = f"{subject.category}/{subject.channel}"
        try:
            await self._records.write("receipt", [_receipt(subject, cell, self._now_ms())])
        except ProblemError:
            return _later()
        with contextlib.suppress(TimeoutError, ProblemError):
            async with asyncio.timeout(VISIBLE_S_MAX):
                await self._until_visible(subject.recipient_id, cell)
        return page(
            "message.html",
            title="You are unsubscribed",
            text=f"You will get no more “{subject.category}” by"
            f" {CHANNEL_NAMES.get(subject.channel, subject.channel)}.",
        )

    async def _until_visible(self, recipient_id: str, cell: str) -> None:
        while True:
            said = await self._states.of_recipient("GET", recipient_id, "preferences")
            found = msgspec.json.decode(said.body, type=RecipientPreferences)
            if found.preferences.cells.get(cell) is False:
                return
            await asyncio.sleep(VISIBLE_POLL_S)


def _receipt(subject: unsubscribe.Unsubscribe, cell: str, now_ms: int) -> dict[str, object]:
    return {
        "recipient_id": subject.recipient_id,
        "kind": "unsubscribed",
        "name": f"cell:{cell}",
        "occurred_at_ms": now_ms,
    }


async def _is_one_click(request: web.Request) -> bool:
    if request.content_type not in (FORM, MULTIPART):
        return False
    try:
        form = await request.post()
    except (ValueError, AssertionError, RuntimeError):  # how aiohttp says: not that form
        return False
    return form.get("List-Unsubscribe") == "One-Click"


def _not_ours() -> web.Response:
    return page(
        "message.html",
        400,
        title="This link does not work",
        text="It was not made here, or was cut off. Use the link in the message as it is.",
    )


def _later() -> web.Response:
    response = page(
        "message.html",
        503,
        title="Not possible at the moment",
        text="You are not unsubscribed yet. Please try again in a minute.",
    )
    response.headers["Retry-After"] = "5"
    return response
