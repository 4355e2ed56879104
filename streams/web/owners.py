"""Which ledger worker owns a partition, and asking it.

The owner of a partition writes its address beside the offsets that it commits, which only the
member of the current generation can do: so the group itself is the directory, always as fresh as
the latest commit, and nobody else keeps a table of workers. Answers are believed for a second.

A question that arrives with the hop header was passed on once already and is never passed on again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings
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
        group = f"{self._engine.application}-ledger"
        offsets = await self._admin.list_consumer_group_offsets(group)
        found = {}
        for place, committed in offsets.items():
            if place.topic == topics.DECISIONS and (url := _url_in(committed.metadata)):
                found[place.partition] = url
        return found

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


def _url_in(metadata: str | None) -> str | None:
    try:
        url = msgspec.json.decode(metadata or "{}").get("url")
    except (msgspec.DecodeError, AttributeError):
        return None
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None
