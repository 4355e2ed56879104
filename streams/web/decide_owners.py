"""Puts the decide pages beside the engine's runners, and says in Kafka where they are.

A runner is wrapped so that its state is readable from the moment it is restored to the moment it
is given up; nothing else about it changes. Where a partition is answered for is written as the
metadata of a committed offset of the group ``<application>-decide-pages``: that group has no
members and no other use, the latest owner's word stands, and a wrong one costs a question that is
answered with 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from streams import topics
from streams.engine.api import StateView
from streams.engine.clients import client_settings
from streams.engine.roles import (
    PartitionContext,
    PartitionRunner,
    RoleSpec,
    RunnerStatus,
    status_of,
)
from streams.engine.settings import EngineSettings
from streams.web.decide_pages import DecideWeb
from streams.web.worker_directory import own_url

log = logging.getLogger(__name__)
RETRY_S = 1.0
REPEAT_MS = 3_600_000
"""Kafka forgets a group without members after days."""


def group_of(application: str, role: str = "decide") -> str:
    """Group whose offsets' metadata says where a partition's pages are."""
    return f"{application}-{role}-pages"


class Announcer:
    """Says where this worker's partitions are answered for. A ``WorkerService``."""

    def __init__(
        self,
        engine: EngineSettings,
        url: Callable[[], str],
        repeat_ms: int = REPEAT_MS,
        *,
        role: str = "decide",
        topic: str = topics.PREFERENCES,
    ) -> None:
        self._engine = engine
        self._role = role
        self._topic = topic
        self._url = url
        self._repeat_s = repeat_ms / 1000
        self._mine: set[int] = set()
        self._changed = asyncio.Event()
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to speak."""
        self._task = asyncio.create_task(self._run(), name="announcer")

    async def stop(self) -> None:
        """Falls silent; what was said stands until the next owner says otherwise."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer is not None:
            with contextlib.suppress(KafkaError):
                await self._consumer.stop()

    def add(self, partition: int) -> None:
        """The partition is answered for here."""
        self._mine.add(partition)
        self._changed.set()

    def remove(self, partition: int) -> None:
        """Not any more."""
        self._mine.discard(partition)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._repeat_s)
            self._changed.clear()
            try:
                await self._announce()
            except (KafkaError, OSError) as error:
                log.warning("could not say which partitions are answered for here: %r", error)
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _announce(self) -> None:
        if not self._mine:
            return
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **client_settings(self._engine, f"{self._role}-announcer"),
                group_id=group_of(self._engine.application, self._role),
                enable_auto_commit=False,
            )
            await consumer.start()
            self._consumer = consumer
        places = [TopicPartition(self._topic, number) for number in sorted(self._mine)]
        self._consumer.assign(places)
        metadata = msgspec.json.encode({"url": self._url()}).decode()
        await self._consumer.commit({place: OffsetAndMetadata(0, metadata) for place in places})


class StateRunner(PartitionRunner, Protocol):
    """What the pages need of a stateful role's runner."""

    @property
    def state(self) -> StateView:
        """Readable from ``start`` to ``stop``."""

    @property
    def caught_up(self) -> bool:
        """Whether it is as new as what was said before."""


class ReadableRunner:
    """A runner whose state the pages may read. Implements ``PartitionRunner``."""

    def __init__(self, partition: int, runner: StateRunner, pages: DecideWeb) -> None:
        self._partition = partition
        self._runner = runner
        self._pages = pages

    async def start(self) -> None:
        """Starts the runner; then its state can be read, once it has caught up."""
        runner = self._runner
        await runner.start()
        self._pages.take_over(self._partition, runner.state, lambda: runner.caught_up)

    async def run(self) -> None:
        """As the runner does."""
        await self._runner.run()

    def status(self) -> RunnerStatus:
        """How it is, for people."""
        return status_of(self._runner)

    async def stop(self, graceful: bool) -> None:
        """Nothing is read any more when the runner stops."""
        await self._pages.give_up(self._partition)
        await self._runner.stop(graceful)


def with_pages(spec: RoleSpec, pages: DecideWeb, engine: EngineSettings) -> RoleSpec:
    """The decide role, answering the API's questions as well."""
    mount = spec.on_app

    def on_app(faust_app: Any) -> None:
        pages.mount(faust_app)
        if mount is not None:
            mount(faust_app)

    def factory(partition: int, context: PartitionContext) -> PartitionRunner:
        inner = cast(StateRunner, spec.runner_factory(partition, context))
        return ReadableRunner(partition, inner, pages)

    services = (*spec.services, pages)
    readable = replace(spec, runner_factory=factory, on_app=on_app, services=services)
    return announced(readable, engine, repeat_ms=pages.announce_ms)


class AnnouncedRunner:
    """A runner whose worker is said to own its partition. Implements ``PartitionRunner``."""

    def __init__(self, partition: int, runner: PartitionRunner, announcer: Announcer) -> None:
        self._partition = partition
        self._runner = runner
        self._announcer = announcer

    async def start(self) -> None:
        """As the runner does."""
        # Said before a restore: whoever asks meanwhile is told that it is under way.
        self._announcer.add(self._partition)
        await self._runner.start()

    async def run(self) -> None:
        """As the runner does."""
        await self._runner.run()

    def status(self) -> RunnerStatus:
        """How it is, for people."""
        return status_of(self._runner)

    async def stop(self, graceful: bool) -> None:
        """As the runner does."""
        self._announcer.remove(self._partition)
        await self._runner.stop(graceful)


def announced(
    spec: RoleSpec,
    engine: EngineSettings,
    topic: str = topics.PREFERENCES,
    repeat_ms: int = REPEAT_MS,
) -> RoleSpec:
    """A role whose workers say in Kafka, beside ``topic``, which partitions they own."""
    app: list[Any] = []
    announcer = Announcer(
        engine, lambda: own_url(engine, app), repeat_ms, role=spec.name, topic=topic
    )
    mount = spec.on_app

    def on_app(faust_app: Any) -> None:
        app.append(faust_app)
        if mount is not None:
            mount(faust_app)

    def factory(partition: int, context: PartitionContext) -> PartitionRunner:
        return AnnouncedRunner(partition, spec.runner_factory(partition, context), announcer)

    services = (*spec.services, announcer)
    return replace(spec, runner_factory=factory, on_app=on_app, services=services)
