"""``/p/TOKEN``: a recipient's own page: what they get and where, quiet hours, digests.

Reached by a signed link, without a login; works without JavaScript. The form carries the version
that it was made from: if the choices were changed elsewhere meanwhile, nothing is saved and the
page shows what they are now. Only what the person changed is written: a box left as it was stays
undecided, so the catalogue's defaults go on applying to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from streams import links
from streams.api.pages import page, stylesheet
from streams.api.preference_form import changes, described
from streams.api.preferences import change_preferences
from streams.api.problems import ProblemError
from streams.api.routes import FORM, Parameter, Reply, Route
from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.core.model import Preferences, QuietWindow
from streams.core.policy import Policy

TOKEN = Parameter("token", "path", "Signed by us.", required=True)
SUPPRESSED = "Nothing is sent to {scope}: {reason}."


class Shown(msgspec.Struct, frozen=True):
    """What the owner said of a recipient."""

    preferences: dict[str, Any]
    etag: str
    suppressions: list[dict[str, Any]] = []


class PreferencePageRoutes:
    """The page and its form."""

    def __init__(
        self,
        settings: ApiSettings,
        states: StateClient,
        policy: Callable[[], Policy],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._states = states
        self._policy = policy
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        html = {status: Reply("A page.", content_type="text/html") for status in (200, 400)}
        common: dict[str, Any] = {"scope": None, "tag": "links", "is_hidden": True}
        return [
            Route(
                method="GET",
                path="/p/{token}",
                operation="preferencePage",
                doc="A recipient's own page.",
                handler=self.show,
                parameters=(TOKEN,),
                replies=html,
                **common,
            ),
            Route(
                method="POST",
                path="/p/{token}",
                operation="savePreferencePage",
                doc="Saves what a recipient chose.",
                handler=self.save,
                parameters=(TOKEN,),
                replies=html,
                **common,
            ),
            Route(
                method="GET",
                path="/assets/page.css",
                operation="stylesheet",
                doc="The stylesheet of all pages.",
                handler=self.style,
                replies={200: Reply("Styles.", content_type="text/css")},
                **common,
            ),
        ]

    async def style(self, request: web.Request) -> web.Response:
        """The stylesheet."""
        headers = {"Cache-Control": "public, max-age=3600"}
        return web.Response(text=stylesheet(), content_type="text/css", headers=headers)

    async def show(self, request: web.Request) -> web.Response:
        """The page as things are."""
        link = self._link(request)
        if isinstance(link, web.Response):
            return link
        return await self._page(link.recipient_id)

    async def save(self, request: web.Request) -> web.Response:
        """Saves what was changed on the form."""
        link = self._link(request)
        if isinstance(link, web.Response):
            return link
        if request.content_type != FORM:
            return _message(400, "That was not the form", "Please go back and try again.")
        form = await request.post()
        fields = [(name, value) for name, value in form.items() if isinstance(value, str)]
        version = dict(fields).get("version", "")
        try:
            shown = await self._shown(link.recipient_id)
        except ProblemError:
            return _later()
        if shown.etag != version:
            return await self._page(link.recipient_id, CHANGED_ELSEWHERE, True)
        merge = changes(fields, _model(shown.preferences), self._policy())
        try:
            await change_preferences(
                self._states, link.recipient_id, self._now_ms(), merge=merge, if_match=[version]
            )
        except ProblemError as error:
            if error.problem.status == 412:
                return await self._page(link.recipient_id, CHANGED_ELSEWHERE, True)
            if error.problem.status == 422:
                return await self._page(link.recipient_id, error.problem.detail, True)
            return _later()
        return await self._page(link.recipient_id, "Saved.")

    def _link(self, request: web.Request) -> links.Link | web.Response:
        settings, token = self._settings, request.match_info["token"]
        link = links.verify(settings.link_secrets, "preferences", token)
        if link is None:
            return _message(400, "This link does not work", "Use the link in the message as it is.")
        if self._now_ms() - link.made_at_ms > settings.page_link_ms_max:
            return _message(410, "This link is too old", "Use one from a newer message.")
        return link

    async def _shown(self, recipient_id: str) -> Shown:
        said = await self._states.of_recipient("GET", recipient_id, "preferences")
        return msgspec.json.decode(said.body, type=Shown)

    async def _page(
        self, recipient_id: str, message: str = "", is_refused: bool = False
    ) -> web.Response:
        try:
            shown = await self._shown(recipient_id)
        except ProblemError:
            return _later()
        values = described(_model(shown.preferences), self._policy())
        suppressions = [SUPPRESSED.format_map(each) for each in shown.suppressions]
        return page(
            "preferences.html",
            409 if is_refused else 200,
            message=message,
            is_refused=is_refused,
            version=shown.etag,
            suppressions=suppressions,
            **values,
        )


CHANGED_ELSEWHERE = (
    "Your choices were changed elsewhere meanwhile, so nothing was saved."
    " Below is what they are now."
)


def _model(preferences: dict[str, Any]) -> Preferences:
    windows = tuple(QuietWindow(**window) for window in preferences["quiet_hours"])
    return Preferences(**{**preferences, "quiet_hours": windows})


def _message(status: int, title: str, text: str) -> web.Response:
    return page("message.html", status, title=title, text=text)


def _later() -> web.Response:
    response = _message(503, "Not possible at the moment", "Please try again in a minute.")
    response.headers["Retry-After"] = "5"
    return response
