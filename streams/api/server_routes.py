"""What the server says of itself: alive, ready, metrics, and its own description."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import generate_latest

from streams.api import metrics, openapi
from streams.api.problems import refuse
from streams.api.routes import Handler, Reply, Route
from streams.api.settings import ApiSettings
from streams.engine.log_writer import LogWriter


class ServerRoutes:
    """About the process, not about notifications."""

    def __init__(
        self, settings: ApiSettings, log: LogWriter, routes: Callable[[], list[Route]]
    ) -> None:
        self._settings = settings
        self._log = log
        self._routes = routes
        self._description: bytes | None = None

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            _own("/health/live", "live", "Is the process alive?", self.live),
            _own("/health/ready", "ready", "Are events taken?", self.ready),
            Route(
                method="GET",
                path="/metrics",
                operation="metrics",
                doc="For Prometheus.",
                handler=self.metrics,
                scope="operate",
                is_hidden=True,
            ),
            Route(
                method="GET",
                path="/v1/openapi.json",
                operation="openapi",
                doc="This description.",
                handler=self.openapi,
                scope=None,
                tag="server",
                replies={200: Reply("OpenAPI 3.1.", dict[str, Any])},
            ),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """Answers while the event loop turns."""
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        """200 while Kafka takes what is written."""
        if not self._log.is_up:
            raise refuse("unavailable", "Kafka does not answer.", retry_after_s=1)
        return web.Response(text="ready\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """Counters as text."""
        metrics.KAFKA_UP.set(self._log.is_up)
        return web.Response(body=generate_latest(metrics.REGISTRY), content_type="text/plain")

    async def openapi(self, request: web.Request) -> web.Response:
        """The description."""
        return web.Response(body=self.description(), content_type="application/json")

    def description(self) -> bytes:
        """OpenAPI as JSON."""
        if self._description is None:
            url = self._settings.public_url
            found = openapi.document(self._routes(), _version(), url)
            self._description = msgspec.json.encode(found)
        return self._description


def _own(path: str, operation: str, doc: str, handler: Handler) -> Route:
    return Route(
        method="GET", path=path, operation=operation, doc=doc, handler=handler, scope=None,
        is_hidden=True,
    )  # fmt: skip


def _version() -> str:
    try:
        return importlib.metadata.version("flowstate")
    except importlib.metadata.PackageNotFoundError:
        return "0"
