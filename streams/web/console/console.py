"""All pages together: made from settings, mounted on a worker's web server, started and stopped.

Invariant: every page is in ``/openapi.json``, which is made from the same values that are served.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from streams.api import openapi
from streams.api.problems import ProblemError
from streams.api.routes import Parameter, Reply, Route
from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.codec import Codec
from streams.engine.settings import EngineSettings
from streams.ledger.looks import LookLog
from streams.web.access import Access, access_of
from streams.web.console import formats
from streams.web.console.asking import Asking
from streams.web.console.dead_letter_log import DeadLetterLog
from streams.web.console.dead_letters import DeadLetterPages
from streams.web.console.fleet import Fleet
from streams.web.console.frame import Frame, PageMetrics
from streams.web.console.live import Live
from streams.web.console.login import HOME, Login
from streams.web.console.notification import NotificationPages, chart_steps
from streams.web.console.overview import OverviewPages
from streams.web.console.page import Page
from streams.web.console.partitions import PartitionPages
from streams.web.console.providers import ProviderPages
from streams.web.console.recipient import RecipientPages
from streams.web.console.redriving import Redriving
from streams.web.console.search import SearchPages
from streams.web.console.table_pages import TablePages
from streams.web.ledger_pages import LedgerWeb
from streams.web.settings import WebSettings

STATIC = Path(__file__).resolve().parent / "static"
STATIC_TYPES = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FORMAT = Parameter(
    "format", "query", "html, json or csv (listings), over what Accept and .json say."
)


class Console:
    """The pages of one worker. A ``WorkerService``."""

    def __init__(
        self,
        settings: WebSettings,
        api: ApiSettings,
        engine: EngineSettings,
        codec: Codec,
        access: Access,
        ledger: LedgerWeb,
        looks: LookLog,
    ) -> None:
        self._states = StateClient(api, engine)
        self._fleet = Fleet(settings, engine, api.internal_secret)
        self._metrics = PageMetrics()
        self._frame = frame = Frame(settings, access, self._metrics)
        self._live = Live(frame)
        self._login = Login(frame)
        asking = Asking(ledger, self._states, looks, engine.partitions)
        self._log = DeadLetterLog(engine, engine.partitions)
        self._letters = DeadLetterPages(settings, asking, self._log, codec)
        self._redriving = Redriving(self._letters, engine, frame, codec)
        groups = (
            OverviewPages(asking, self._fleet, ledger.hours_max),
            SearchPages(asking, settings.rows_max),
            RecipientPages(asking, settings.rows_max),
            NotificationPages(asking),
            ProviderPages(self._fleet),
            PartitionPages(self._fleet, engine.partitions),
            TablePages(asking, settings.rows_max),
            self._letters,
        )
        self.pages = [page for group in groups for page in group.pages()]
        frame.navigation = [page for page in self.pages if page.in_navigation]
        frame.helpers["chart_steps"] = chart_steps
        self._description: bytes | None = None

    async def start(self) -> None:
        """Opens what the pages need."""
        await self._states.start()
        await self._fleet.start()

    async def stop(self) -> None:
        """Ends live pages and closes everything."""
        self._live.stop()
        await self._log.stop()
        await self._fleet.stop()
        await self._states.stop()

    def mount(self, faust_app: Any) -> None:
        """Adds the pages to a worker's web server, and their metrics to its ``/metrics``."""
        faust_app.engine.worker.metrics.registry.register(self._metrics)
        self.mount_on(faust_app.web.web_app)

    def mount_on(self, application: web.Application) -> None:
        """Adds the pages to an aiohttp application."""
        application.add_routes(self.routes())
        # Faust has a page of its own at "/", and the first one wins.
        application.middlewares.append(web.middleware(_home))

    def routes(self) -> list[web.RouteDef]:
        """Everything that is served."""
        found = [*self._login.routes(), *self._redriving.routes()]
        for page in self.pages:
            handler = self._frame.handler(page)
            found.append(web.get(page.path, handler))
            if not page.path.endswith("}"):
                found.append(web.get(page.path + formats.JSON_SUFFIX, handler))
        found.append(web.get("/openapi.json", self.openapi))
        found += [web.get(f"/static/{name}", self.static) for name in STATIC_TYPES]
        return found

    async def static(self, request: web.Request) -> web.Response:
        """The stylesheet and the script: the same for everybody, and nobody's secret."""
        name = request.path.rpartition("/")[2]
        response = self._frame.respond((STATIC / name).read_bytes(), STATIC_TYPES[name])
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def openapi(self, request: web.Request) -> web.Response:
        """The description, for whoever may read."""
        try:
            self._frame.access.require(request, "read")
        except ProblemError as error:
            return self._frame.refusal(request, "json", error.problem)
        return self._frame.respond(self.description(), "application/json")

    def description(self) -> bytes:
        """OpenAPI as JSON, made from the pages."""
        if self._description is None:
            found = openapi.document([_route(page) for page in self.pages], _version(), "/")
            found["info"]["title"] = "Flowstate: history and state"
            self._description = msgspec.json.encode(found)
        return self._description


async def _home(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.path == "/" and request.method in ("GET", "HEAD"):
        raise web.HTTPFound(HOME)
    return await handler(request)


def _route(page: Page) -> Route:
    """A page as OpenAPI describes it: what a program gets."""
    replies = {200: Reply(page.doc, page.document)}
    return Route(
        method="GET",
        path=page.path,
        operation=page.operation,
        doc=page.doc,
        handler=_unused,
        scope=page.scope,
        tag="pages",
        parameters=(*page.parameters, FORMAT),
        replies=replies,
        refusals=("not_found", "invalid"),
    )


async def _unused(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


def console_access(settings: WebSettings, api: ApiSettings) -> Access:
    """Who is let in, from settings. Raises ``KeysUnreadable``."""
    return access_of(
        api.keys_file,
        api.internal_secret,
        session_secret(settings, api),
        settings.session_ms,
        api.keys_reread_ms,
    )


def session_secret(settings: WebSettings, api: ApiSettings) -> bytes:
    """What signs sessions: its own secret, one made from the workers', or a random one."""
    if settings.session_secret:
        return settings.session_secret.encode()
    if api.internal_secret:
        return hashlib.sha256(b"sessions:" + api.internal_secret.encode()).digest()
    return os.urandom(32)


def _version() -> str:
    try:
        return importlib.metadata.version("flowstate")
    except importlib.metadata.PackageNotFoundError:
        return "0"
