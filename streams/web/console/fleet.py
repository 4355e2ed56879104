"""Every worker of the system, asked how it is.

Who owns which partition is in Kafka (``worker_directory.py``); each of these workers is asked for
its ``/engine`` page, deliver workers also for their providers. All at once, within
``worker_ms_max``; what they said is shown again for ``workers_cached_ms``, however many ask.

Invariant: a worker that does not answer is shown as silent, never left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TypeVar

import aiohttp
import msgspec

from streams import topics
from streams.engine.pages import WorkerStatus
from streams.engine.settings import EngineSettings
from streams.ledger.directory import ledger_group
from streams.web import deliver_pages
from streams.web.decide_owners import group_of
from streams.web.deliver_documents import DeliverStatus
from streams.web.internal import headers
from streams.web.settings import WebSettings
from streams.web.worker_directory import WorkerDirectory

Document = TypeVar("Document")
ROLES = ("decide", "deliver", "ledger")


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as Kafka and it itself describe it."""

    role: str
    url: str
    announced: list[int]
    """Partitions that it was the last to be named for."""
    status: WorkerStatus | None
    """``None``: it does not answer."""
    deliver: DeliverStatus | None = None


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody, at one moment."""

    at_ms: int
    workers: list[Worker]

    def of(self, role: str) -> list[Worker]:
        """The workers of a role."""
        return [worker for worker in self.workers if worker.role == role]


class Fleet:
    """Asks workers. One per ledger worker."""

    def __init__(self, settings: WebSettings, engine: EngineSettings, internal_secret: str) -> None:
        self._settings = settings
        self._secret = internal_secret
        application, timeout_ms = engine.application, settings.worker_ms_max
        self._directories = {
            "decide": WorkerDirectory(
                engine, group_of(application), topics.PREFERENCES, timeout_ms
            ),
            "deliver": WorkerDirectory(
                engine, group_of(application, "deliver"), topics.deliveries("apns"), timeout_ms
            ),
            "ledger": WorkerDirectory(
                engine, ledger_group(application), topics.DECISIONS, timeout_ms
            ),
        }
        self._session: aiohttp.ClientSession | None = None
        self._known: FleetStatus | None = None
        self._known_at = float("-inf")
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Opens the connections as they are needed."""
        timeout = aiohttp.ClientTimeout(total=self._settings.worker_ms_max / 1000)
        self._session = aiohttp.ClientSession(timeout=timeout)

    async def stop(self) -> None:
        """Closes them."""
        if self._session is not None:
            await self._session.close()
        for directory in self._directories.values():
            await directory.stop()

    async def status(self) -> FleetStatus:
        """Everybody, as of a moment ago."""
        async with self._asking:
            age_ms = (time.monotonic() - self._known_at) * 1000
            if self._known is None or age_ms > self._settings.workers_cached_ms:
                self._known = await self._ask()
                self._known_at = time.monotonic()
            return self._known

    async def _ask(self) -> FleetStatus:
        owners = await asyncio.gather(*(self._directories[role].all() for role in ROLES))
        asked = [
            self._worker(role, url, partitions)
            for role, known in zip(ROLES, owners, strict=True)
            for url, partitions in sorted(by_url(known).items())
        ]
        workers = await asyncio.gather(*asked)
        return FleetStatus(at_ms=time.time_ns() // 1_000_000, workers=list(workers))

    async def _worker(self, role: str, url: str, partitions: list[int]) -> Worker:
        status = await self._get(url, "/engine", WorkerStatus)
        if status is not None and status.role != role:
            status = None  # another worker has the address by now
        deliver = None
        if status is not None and role == "deliver":
            deliver = await self._get(url, deliver_pages.PATH, DeliverStatus)
        return Worker(role=role, url=url, announced=partitions, status=status, deliver=deliver)

    async def _get(self, url: str, path: str, kind: type[Document]) -> Document | None:
        if self._session is None:
            return None
        try:
            async with self._session.get(
                url.rstrip("/") + path, headers=headers(self._secret), allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return None
                return msgspec.json.decode(await answer.read(), type=kind)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return None


def by_url(owners: Mapping[int, str]) -> dict[str, list[int]]:
    """Worker -> partitions that it was named for, in order."""
    found: dict[str, list[int]] = {}
    for partition, url in sorted(owners.items()):
        found.setdefault(url, []).append(partition)
    return found
