"""Which worker answers for a partition, as Kafka knows it: a directory that nobody has to keep.

Owners write their address as metadata beside a committed offset, ledger workers in their own group,
decide workers in that of ``decide_owners.py``. Answers are believed for ``cached_ms``; one question
is under way at a time, however many ask.

Invariant: an answer may be a moment old and then costs a question that is refused; it is never
invented.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings
from streams.ledger.directory import owners_in_group

log = logging.getLogger(__name__)


def own_url(engine: EngineSettings, faust_apps: Sequence[Any]) -> str:
    """Where other workers reach this one; ``faust_apps`` holds its app once there is one."""
    if engine.advertised_url:
        return engine.advertised_url
    port = engine.web_port
    if port == 0 and faust_apps:
        addresses = faust_apps[0].web._runner.addresses
        port = addresses[0][1] if addresses else 0
    is_everywhere = engine.web_host in ("0.0.0.0", "::")  # noqa: S104 (a comparison)
    host = socket.gethostname() if is_everywhere else engine.web_host
    return f"http://{host}:{port}"


class WorkerDirectory:
    """Addresses by partition, of one role."""

    def __init__(
        self,
        engine: EngineSettings,
        group: str,
        topic: str,
        timeout_ms: int = 1_000,
        cached_ms: int = 1_000,
    ) -> None:
        self._engine = engine
        self._group = group
        self._topic = topic
        self._timeout_s = timeout_ms / 1000
        self._cached_s = cached_ms / 1000
        self._admin: Any = None
        self._known: dict[int, str] = {}
        self._known_at = float("-inf")
        self._is_silent = False
        self._asking = asyncio.Lock()

    async def stop(self) -> None:
        """Disconnects."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def url_of(self, partition: int) -> str | None:
        """Where the partition is answered for, if anybody says so."""
        return (await self.all()).get(partition)

    async def all(self) -> dict[int, str]:
        """Every partition that somebody answers for."""
        if time.monotonic() - self._known_at <= self._cached_s:
            return self._known
        async with self._asking:
            if time.monotonic() - self._known_at > self._cached_s:
                await self._refresh()
        return self._known

    def forget(self) -> None:
        """The next question asks Kafka again."""
        self._known_at = float("-inf")

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._known = await self._ask()
            self._is_silent = False
        except (KafkaError, OSError, TimeoutError) as error:
            if not self._is_silent:
                log.warning("who answers for %s is not known now: %r", self._group, error)
            self._is_silent = True
        self._known_at = time.monotonic()

    async def _ask(self) -> dict[int, str]:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**client_settings(self._engine, "directory"))
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return await owners_in_group(self._admin, self._group, self._topic)
