"""One worker's engine: everything that starts and stops with the process.

Order of starting: the folder's lock, the checks of the topics, the connections, the followed
topics, the role's services; only then does Faust join the group. Order of stopping: the runners
while the membership still stands (so that they can commit), then the same in reverse.

Invariant: one engine per data folder and role.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import shutil
import time
from pathlib import Path
from typing import IO

from aiokafka.errors import KafkaError

from streams.engine import topics_admin
from streams.engine.clock import check_against_cluster
from streams.engine.context import WorkerParts
from streams.engine.follower import Followers
from streams.engine.offsets import Membership
from streams.engine.roles import RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.supervisor import Supervisor
from streams.engine.watchdog import Watchdog

log = logging.getLogger(__name__)

RETRY_S = 0.5


class FolderInUse(Exception):  # noqa: N818 (a state, named for what happened)
    """Another worker of the same role uses this data folder."""


class Engine:
    """What a worker is, apart from Faust."""

    def __init__(self, role: RoleSpec, settings: EngineSettings, membership: Membership) -> None:
        self.role = role
        self.settings = settings
        self.worker = WorkerParts(role, settings, membership, self.fail)
        self.supervisor = Supervisor(role, settings, self.worker)
        self.watchdog = Watchdog(self.supervisor, self.worker, settings)
        self.followers = Followers(role.follows, settings, self.fail)
        self.joined = False
        """Whether the group has ever given this worker an assignment (an empty one counts)."""
        self._lock: IO[str] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """Where this role keeps its local state."""
        return Path(self.settings.data_folder) / self.role.name

    def fail(self, error: BaseException) -> None:
        """Something in the background broke: the process ends."""
        self.supervisor.on_failure(error)

    def ready(self) -> bool:
        """Whether this worker does its share."""
        return self.joined and self.supervisor.ready()

    async def start(self) -> None:
        """Everything that must be there before the group is joined."""
        self._lock_folder()
        await self._wait_for_cluster()
        await self._check_topics()
        await self._check_cluster()
        await self._check_clock()
        await self.worker.start()
        await self.followers.start()
        for service in self.role.services:
            await service.start()
        self.watchdog.start()

    async def close(self) -> None:
        """Stops the runners gracefully, then everything else. Later calls wait for the first."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self.watchdog.stop()
        await self.supervisor.close()
        for service in reversed(self.role.services):
            await service.stop()
        await self.followers.stop()
        await self.worker.stop()
        if self._lock is not None:
            self._lock.close()

    # -- checks

    def _lock_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "worker.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise FolderInUse(
                f"another {self.role.name} worker uses {self.folder}: give each its own data_folder"
            ) from error
        self._lock = lock

    async def _wait_for_cluster(self) -> None:
        """The cluster may come up after the worker does."""
        deadline = time.monotonic() + self.settings.start_ms_max / 1000
        while True:
            try:
                self._cluster_id = await topics_admin.cluster_id(
                    self.settings.bootstrap, self.settings.security
                )
            except (KafkaError, OSError) as error:
                if time.monotonic() > deadline:
                    raise ConnectionError(
                        f"no Kafka answers at {self.settings.bootstrap} ({error})"
                    ) from error
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _check_topics(self) -> None:
        settings, role = self.settings, self.role
        table = (role.table.changelog,) if role.table is not None else ()
        known = {spec.name for spec in role.topic_specs}
        problems = await topics_admin.check_topics(
            settings.bootstrap, role.topic_specs, settings.partitions,
            settings.clock == "stream", settings.security,
        )  # fmt: skip
        problems += await topics_admin.check_partition_counts(
            settings.bootstrap,
            [topic for topic in (*role.topics, *table) if topic not in known],
            settings.partitions,
            settings.security,
        )
        if problems:
            raise topics_admin.TopicsWrong("; ".join(problems))

    async def _check_clock(self) -> None:
        if self.role.clock_topic and self.settings.clock == "wall":
            await check_against_cluster(self.settings, self.role.clock_topic)

    async def _check_cluster(self) -> None:
        """Local state of another cluster is worth nothing here."""
        if self.role.table is None:
            return
        path = self.folder / "cluster-id"
        known = path.read_text() if path.exists() else None
        if known not in (None, self._cluster_id):
            log.warning("the local state is of another cluster: wiped")
            for folder in self.folder.glob("partition-*"):
                shutil.rmtree(folder)
        path.write_text(self._cluster_id)
