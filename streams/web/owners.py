"""Which ledger worker owns a partition, and asking it.

The consumer group is the directory (``ledger/directory.py``); what it says is believed for 1 s.
A question that arrives with the hop header was passed on once already and is never passed on again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import aiohttp
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient

from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings
from streams.ledger.directory import owners_in_group
from streams.ledger.metrics import LedgerMetrics
from streams.ledger.settings import LedgerSettings

log = logging.getLogger(__name__)
HOP_HEADER = "Flowstate-Hop"


class Owners:
    """The directory of a worker, and its connections to the others."""

    def __init__(
        self, settings: LedgerSettings, engine: EngineSettings, metrics: LedgerMetrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._engine = engine
        self._admin: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[int, str] = {}
        self._known_at = float("-inf")
        self._silent: set[str] = set()
        """Workers that did not answer the last time: said once, not at each question."""
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Opens the connections to other workers; the one to Kafka waits for the first need."""
        timeout = aiohttp.ClientTimeout(total=self._settings.proxy_timeout_ms / 1000)
        self._session = aiohttp.ClientSession(timeout=timeout)

    async def stop(self) -> None:
        """Closes everything."""
        if self._session is not None:
            await self._session.close()
        if self._admin is not None:
            await self._admin.close()
        self._session = self._admin = None

    async def all(self) -> dict[int, str]:
        """Address of the owner of every partition that has one."""
        async with self._asking:
            is_old = time.monotonic() - self._known_at > self._settings.owners_cached_ms / 1000
            if is_old and self._session is not None:
                try:
                    timeout_s = self._settings.proxy_timeout_ms / 1000
                    self._known = await asyncio.wait_for(self._ask(), timeout_s)
                    self._silent.intersection_update(self._known.values())
                except Exception as error:
                    log.warning("the owners of partitions are not known now: %r", error)
                self._known_at = time.monotonic()
            return self._known

    async def _ask(self) -> dict[int, str]:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**client_settings(self._engine, "ledger-owners"))
            await admin.start()
            self._admin = admin
        return await owners_in_group(self._admin, self._engine.application)

    async def ask(self, url: str, path_and_query: str) -> web.Response | None:
        """The other worker's answer; ``None`` when there is none in time."""
        if self._session is None:
            return None
        try:
            async with self._session.get(
                url.rstrip("/") + path_and_query, headers={HOP_HEADER: "1"}, allow_redirects=False
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
        headers = {
            name: answer.headers[name]
            for name in ("Content-Type", "Retry-After")
            if name in answer.headers
        }
        return web.Response(status=answer.status, body=body, headers=headers)
