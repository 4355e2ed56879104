"""Asking the worker that owns a partition: who it is, and its answer as it is.

``worker_directory.py`` knows who answers for a partition; here are the connections to the others.
A question that arrives with the hop header was passed on once already and is never passed on again.
"""

from __future__ import annotations

import logging

import aiohttp
from aiohttp import web

from streams.ledger.metrics import LedgerMetrics
from streams.ledger.settings import LedgerSettings
from streams.web.internal import headers
from streams.web.worker_directory import WorkerDirectory

log = logging.getLogger(__name__)
PASSED_BACK = ("Content-Type", "Retry-After")


class Owners:
    """The directory of a worker, and its connections to the others."""

    def __init__(
        self, settings: LedgerSettings, directory: WorkerDirectory, metrics: LedgerMetrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._directory = directory
        self._session: aiohttp.ClientSession | None = None
        self._silent: set[str] = set()
        """Workers that did not answer the last time: said once, not at each question."""

    async def start(self) -> None:
        """Opens the connections to other workers; the one to Kafka waits for the first need."""
        timeout = aiohttp.ClientTimeout(total=self._settings.proxy_timeout_ms / 1000)
        self._session = aiohttp.ClientSession(timeout=timeout)

    async def stop(self) -> None:
        """Closes everything."""
        if self._session is not None:
            await self._session.close()
        self._session = None
        await self._directory.stop()

    async def all(self) -> dict[int, str]:
        """Address of the owner of every partition that has one."""
        found = await self._directory.all()
        self._silent.intersection_update(found.values())
        return found

    async def ask(self, url: str, path_and_query: str) -> web.Response | None:
        """The other worker's answer; ``None`` when there is none in time."""
        if self._session is None:
            return None
        try:
            async with self._session.get(
                url.rstrip("/") + path_and_query,
                headers=headers(self._settings.internal_secret),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._metrics.passed_on.labels("failed").inc()
            if url not in self._silent:
                self._silent.add(url)
                log.warning("no answer from %s: %s", url, str(error) or type(error).__name__)
            return None
        self._silent.discard(url)
        self._metrics.passed_on.labels("answered").inc()
        passed = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        return web.Response(status=answer.status, body=body, headers=passed)
