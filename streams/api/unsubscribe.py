"""``/u/TOKEN``: one click and the mail stops (RFC 8058).

POST acts, whoever sends it and without cookies: the mail program does it for the person. GET, which
every scanner follows, shows a page with one button and changes nothing. What the link is about is
in the token that we signed; the choice is made as a cell of the recipient's preferences (this
category on this channel), so it shows there at once, and they can take it back.

Source: https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from streams.api.pages import page
from streams.api.preferences import change_preferences
from streams.api.problems import ProblemError
from streams.api.routes import FORM, Parameter, Reply, Route
from streams.api.state_client import StateClient
from streams.sinks import unsubscribe
from streams.sinks.settings import UnsubscribeSettings

log = logging.getLogger(__name__)

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
        self, settings: UnsubscribeSettings, states: StateClient, now_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
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
            await change_preferences(
                self._states, subject.recipient_id, self._now_ms(), merge={"cells": {cell: False}}
            )
        except ProblemError as error:
            if error.problem.status != 422:
                return _later()
            # The catalogue no longer has the category: nothing of it will be sent to anybody.
            log.warning("unsubscribed from a category that is gone")
        return page(
            "message.html",
            title="You are unsubscribed",
            text=f"You will get no more “{subject.category}” by"
            f" {CHANNEL_NAMES.get(subject.channel, subject.channel)}.",
        )


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
