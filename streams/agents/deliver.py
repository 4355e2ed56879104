"""The deliver role: takes deliveries, sends them through the sinks, makes every answer durable.

``deliver_partition.py`` is one partition's work, ``deliver_lane.py`` the order in which things are
sent, ``deliver_positions.py`` what a successor must know, ``deliver_log.py`` the writing. Here is
what the runners of a worker share, and the role as the engine runs it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from streams import topics
from streams.agents.deliver_log import LogClients
from streams.agents.deliver_metrics import DeliverMetrics
from streams.agents.deliver_partition import DeliverRunner
from streams.agents.deliver_terms import Names
from streams.agents.kill_switches import KillSwitches
from streams.codec import Codec
from streams.engine import roles
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import build_providers
from streams.sinks.settings import DeliverSettings
from streams.templates.catalogue import Templates
from streams.web.deliver_pages import DeliverPages


class Deliverer:
    """What all runners of a worker share. A ``WorkerService``."""

    def __init__(
        self,
        settings: DeliverSettings,
        codec: Codec,
        names: Names | None = None,
        pages: DeliverPages | None = None,
    ) -> None:
        self.settings = settings
        self.codec = codec
        self.names = names or Names()
        self.kill_switches = KillSwitches(codec)
        folder = Path(settings.templates_folder) if settings.templates_folder else None
        self.templates = Templates(folder)
        self.dispatcher = Dispatcher(
            build_providers(settings, _now_ms()),
            settings.partitions,
            self.kill_switches.stops_provider,
        )
        self.clients = LogClients()
        self.metrics = DeliverMetrics(self.dispatcher, None if pages is None else pages.answered)
        if pages is not None:
            switches = self.kill_switches
            pages.show(self.dispatcher, switches.stops_provider, lambda: switches.active)
        self._owned: set[int] = set()

    async def start(self) -> None:
        """Opens the transports."""
        await self.dispatcher.start()

    async def stop(self) -> None:
        """Closes what is open."""
        await self.dispatcher.stop()
        await self.clients.stop()

    def own(self, partition: int, owned: bool) -> None:
        """Shares of quotas follow what this worker owns."""
        (self._owned.add if owned else self._owned.discard)(partition)
        self.dispatcher.own(len(self._owned), _now_ms())


def deliver_role(
    settings: DeliverSettings,
    codec: Codec,
    names: Names | None = None,
    pages: DeliverPages | None = None,
) -> roles.RoleSpec:
    """The role as the engine runs it."""
    worker = Deliverer(settings, codec, names, pages)

    def on_app(faust_app: Any) -> None:
        worker.metrics.on_app(faust_app)
        if pages is not None:
            pages.mount(faust_app)

    def runner(partition: int, context: roles.PartitionContext) -> DeliverRunner:
        return DeliverRunner(partition, context, worker)

    def lane(critical: bool) -> roles.Lane:
        return roles.Lane(
            name="critical" if critical else "normal",
            topics=tuple(worker.names.deliveries(kind, critical) for kind in topics.KINDS),
            records_max=settings.take_records_max,
            urgent=critical,
        )

    return roles.RoleSpec(
        name="deliver",
        lanes=(lane(True), lane(False)),
        runner_factory=runner,
        follows=(roles.Follow(worker.names.kill_switch, worker.kill_switches.on_record),),
        services=(worker,),
        on_app=on_app,
        clock_topic=worker.names.clock,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
