"""Keeps a running worker's catalogue the file's: atomic, versioned, and never a broken one.

The file is looked at every ``catalogue_poll`` and at once on SIGHUP. When its content changed (and
has stayed so from one look to the next, so that a file that is being written is left alone), it is
read and checked as at the start. A right one replaces the policy whole, between two batches: what
is being decided finishes under the old one, and every decision names the version that made it. A
wrong one is refused with the reasons; the old one stays in force until the file is mended.

Only the catalogue is taken: categories, limits, bounds and ``[policy]``. Addresses of clusters,
providers and roles need a restart. Workers look at their files by themselves, so for a moment two
of them may decide under different versions.

Invariants: ``policy`` is always one that was checked; reloading never raises and never waits
while a decision is made; each content of the file is judged once, unless SIGHUP asks again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric

from streams.configuration.problems import SettingsError
from streams.core.policy import Policy

log = logging.getLogger(__name__)

POLL_MS = 2_000
"""How often the file is looked at, unless ``catalogue_poll`` says otherwise."""


class CatalogueReload:
    """A ``WorkerService`` that hands on each new policy of a file."""

    def __init__(
        self,
        path: Path,
        policy: Policy,
        load: Callable[[], Policy],
        use: Callable[[Policy], None] = lambda _: None,
        poll_ms: int | None = POLL_MS,
    ) -> None:
        """``load`` reads the file or raises ``SettingsError``; ``use`` takes what it read.

        ``poll_ms`` ``None``: only on SIGHUP.
        """
        self.policy = policy
        self._path, self._load, self._use, self._poll_ms = path, load, use, poll_ms
        self._judged = _digest(path)
        """Digest of the content that was read last, whatever became of it."""
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.registry = registry = CollectorRegistry()
        self._version = Gauge(
            "flowstate_catalogue", "1 for the version of the catalogue in force.", ["version"],
            registry=registry,
        )  # fmt: skip
        self._reloads = Counter(
            "flowstate_catalogue_reloads", "Catalogues taken while running.", registry=registry
        )
        self._refusals = Counter(
            "flowstate_catalogue_refusals", "Catalogues refused while running.", registry=registry
        )
        self._is_refused = Gauge(
            "flowstate_catalogue_refused",
            "1 while the file has a catalogue that was refused.", registry=registry,
        )  # fmt: skip
        self._version.labels(policy.version).set(1)

    # ------------------------------------------------------------------------------------- service

    async def start(self) -> None:
        """Begins to look, and to listen for SIGHUP."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if self._poll_ms is not None:
            self._begin(self._watch(self._poll_ms / 1000))

    async def stop(self) -> None:
        """Looks no more; SIGHUP then changes nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_app(self, app: Any) -> None:
        """Adds these metrics to the engine's ``/metrics``."""
        app.engine.worker.metrics.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What a registry asks of a collector."""
        return self.registry.collect()

    # ------------------------------------------------------------------------------------ reloading

    async def reload(self) -> bool:
        """Reads the file now. True when its catalogue is in force afterwards."""
        async with self._turn:
            self._judged = await asyncio.to_thread(_digest, self._path)
            try:
                new = await asyncio.to_thread(self._load)
            except SettingsError as error:
                return self._refuse(str(error))
            except Exception as error:  # A bug in a check must not end a worker that works.
                return self._refuse(f"{self._path} cannot be checked: {error!r}")
            self._is_refused.set(0)
            if new.version != self.policy.version:
                self._take(new)
            return True

    def _take(self, new: Policy) -> None:
        old = self.policy
        self._use(new)
        self.policy = new
        self._version.clear()
        self._version.labels(new.version).set(1)
        self._reloads.inc()
        log.info("catalogue %s is in force, in place of %s", new.version, old.version)
        gone = sorted(old.categories.keys() - new.categories.keys())
        if gone:
            log.warning(
                "the catalogue has no category %s any more: what waits in it becomes a dead letter"
                " (unknown_category) when it is due; `flowstate redrive` brings it back once the"
                " category is",
                ", ".join(gone),
            )

    def _refuse(self, why: str) -> bool:
        self._refusals.inc()
        self._is_refused.set(1)
        log.error("the changed catalogue is refused, %s stays: %s", self.policy.version, why)
        return False

    async def _watch(self, poll_s: float) -> None:
        seen = self._judged
        while True:
            await asyncio.sleep(poll_s)
            now = await asyncio.to_thread(_digest, self._path)
            if now is not None and now == seen and now != self._judged:
                await self.reload()
            seen = now

    def _hang_up(self) -> None:
        log.info("SIGHUP: reads the catalogue again")
        self._begin(self.reload())

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _digest(path: Path) -> bytes | None:
    """Digest of a file's content; ``None`` while there is none (a file is being replaced)."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
