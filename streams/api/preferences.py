"""Choices of a recipient: read, replace, change, snooze; and a link with which they do it alone.

Whoever asks, the worker that owns the recipient answers, and it makes the changes, one at a time;
see ``web/preference_owner.py``. An answer with success is durable and applies to every event that
is sent from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from streams import links
from streams.api.problems import refuse
from streams.api.routes import (
    JSON,
    MERGE_PATCH,
    RECIPIENT,
    Parameter,
    Reply,
    Route,
    read_body,
    recipient_of,
    reply,
)
from streams.api.settings import ApiSettings
from streams.api.state_client import Answered, StateClient
from streams.web.state_documents import (
    PreferencesChange,
    PreferencesDocument,
    RecipientPreferences,
    TimeMs,
)

ETAGS_MAX = 20
MINUTE_MS = 60_000
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "ETag of the version that this change was made from, or *: 412 when there is a newer one.",
    str,
)
CHOICES = Reply("The choices as they now hold.", RecipientPreferences, headers={"ETag": "Version."})


class Snooze(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing but critical until then; exactly one of the two."""

    until_ms: TimeMs | UnsetType = UNSET
    minutes: Annotated[int, Meta(ge=1, le=60 * 24 * 366)] | UnsetType = UNSET


class PageLink(msgspec.Struct, frozen=True):
    """A link that opens the recipient's own preference page without a login."""

    url: str
    expires_at_ms: int


class PreferenceRoutes:
    """Reads and changes choices."""

    def __init__(
        self, settings: ApiSettings, states: StateClient, now_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._states = states
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """Its operations."""
        path = "/v1/recipients/{recipient_id}/preferences"
        changes = ("precondition_failed", "invalid", "unavailable")
        common: dict[str, Any] = {"tag": "preferences", "replies": {200: CHOICES}}
        return [
            Route(
                method="GET",
                path=path,
                operation="getPreferences",
                doc="What the recipient chose, with the version to send back as If-Match.",
                handler=self.get,
                scope="read",
                parameters=(RECIPIENT,),
                refusals=("unavailable",),
                **common,
            ),
            Route(
                method="PUT",
                path=path,
                operation="putPreferences",
                doc="Replace all choices. If-Match is required, so that nothing is lost unseen.",
                handler=self.put,
                scope="operate",
                parameters=(RECIPIENT, IF_MATCH),
                body=PreferencesDocument,
                refusals=(*changes, "precondition_required"),
                **common,
            ),
            Route(
                method="PATCH",
                path=path,
                operation="patchPreferences",
                doc="Change some choices: a JSON merge patch, null takes a choice back.",
                handler=self.patch,
                scope="operate",
                parameters=(RECIPIENT, IF_MATCH),
                body=dict[str, Any],
                body_types=(MERGE_PATCH, JSON),
                refusals=changes,
                **common,
            ),
            Route(
                method="PUT",
                path="/v1/recipients/{recipient_id}/snooze",
                operation="snooze",
                doc="Send nothing but critical for a while.",
                handler=self.snooze,
                scope="operate",
                parameters=(RECIPIENT,),
                body=Snooze,
                refusals=("invalid", "unavailable"),
                **common,
            ),
            Route(
                method="DELETE",
                path="/v1/recipients/{recipient_id}/snooze",
                operation="endSnooze",
                doc="End a snooze.",
                handler=self.end_snooze,
                scope="operate",
                parameters=(RECIPIENT,),
                refusals=("unavailable",),
                **common,
            ),
            Route(
                method="POST",
                path="/v1/recipients/{recipient_id}/preference-link",
                operation="makePreferenceLink",
                doc="Make a link to the recipient's own preference page, which needs no login.",
                handler=self.link,
                scope="operate",
                tag="preferences",
                parameters=(RECIPIENT,),
                replies={200: Reply("The link; hand it to nobody else.", PageLink)},
                refusals=("unavailable",),
            ),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """Reads."""
        return passed_on(
            await self._states.of_recipient("GET", recipient_of(request), "preferences")
        )

    async def put(self, request: web.Request) -> web.Response:
        """Replaces."""
        document = await read_body(request, PreferencesDocument)
        if_match = etags(request)
        if if_match is UNSET:
            raise refuse("precondition_required", "Send If-Match with the ETag that you read.")
        replace = msgspec.to_builtins(document)
        return await self._change(recipient_of(request), if_match, replace=replace)

    async def patch(self, request: web.Request) -> web.Response:
        """Merges."""
        merge = await read_body(request, dict[str, Any], MERGE_PATCH, JSON)
        if_match = etags(request)
        if if_match is UNSET:
            if_match = None
        return await self._change(recipient_of(request), if_match, merge=merge)

    async def snooze(self, request: web.Request) -> web.Response:
        """Begins a snooze, or moves its end."""
        wished = await read_body(request, Snooze)
        if (wished.until_ms is UNSET) == (wished.minutes is UNSET):
            raise refuse("invalid", "Send exactly one of until_ms and minutes.")
        until_ms = wished.until_ms
        if until_ms is UNSET:
            assert wished.minutes is not UNSET
            until_ms = self._now_ms() + wished.minutes * MINUTE_MS
        return await self._change(recipient_of(request), None, merge={"snooze_until_ms": until_ms})

    async def end_snooze(self, request: web.Request) -> web.Response:
        """Ends a snooze."""
        return await self._change(recipient_of(request), None, merge={"snooze_until_ms": 0})

    async def link(self, request: web.Request) -> web.Response:
        """Makes a link to the recipient's page."""
        settings = self._settings
        if not settings.link_secrets or not settings.public_url:
            detail = "Links need api.public_url and api.link_secrets in flowstate.toml."
            raise refuse("unavailable", detail)
        made_at_ms = self._now_ms()
        about = links.Link(recipient_of(request), made_at_ms)
        token = links.token(settings.link_secrets, "preferences", about)
        url = f"{settings.public_url.rstrip('/')}/p/{token}"
        return reply(PageLink(url, made_at_ms + settings.page_link_ms_max))

    async def _change(
        self, recipient_id: str, if_match: list[str] | None, **change: Any
    ) -> web.Response:
        return passed_on(
            await change_preferences(
                self._states, recipient_id, self._now_ms(), if_match=if_match, **change
            )
        )


async def change_preferences(
    states: StateClient, recipient_id: str, at_ms: int, **change: Any
) -> Answered:
    """Asks the owner to make a change. Raises ``ProblemError``."""
    body = msgspec.json.encode(PreferencesChange(at_ms=at_ms, **change))
    return await states.of_recipient("POST", recipient_id, "preferences", body)


def etags(request: web.Request) -> list[str] | UnsetType | None:
    """Entity tags of If-Match; ``None`` for ``*``, ``UNSET`` without the header. Raises 400."""
    text = request.headers.get("If-Match")
    if text is None:
        return UNSET
    if text.strip() == "*":
        return None
    tags = [tag.strip() for tag in text.split(",")][:ETAGS_MAX]
    if not all(len(tag) > 1 and tag[0] == tag[-1] == '"' for tag in tags):
        raise refuse("malformed", 'If-Match: expected "VERSION" in quotes, as ETag gave it.')
    return tags


def passed_on(said: Answered) -> web.Response:
    """The owner's answer as ours."""
    headers = {"ETag": said.etag} if said.etag else None
    return web.Response(
        body=said.body, status=said.status, content_type=said.content_type, headers=headers
    )
