"""Faust's membership in the consumer group, without Faust's reading and committing.

Faust's consumer lives in a thread of its own (heartbeats go on while the main loop computes), runs
its co-partitioned assignor and calls back on a rebalance: that is what we keep. What it would
fetch, the engine reads itself (``reader.py``); so every partition that it is assigned is paused at
once in the thread's aiokafka consumer, and left out of Faust's active partitions. Offsets are
committed through this membership, because the broker then refuses them from a stale generation.

Seams: ``Transport.Consumer``, ``Consumer._new_consumer_thread``, ``_create_worker_consumer``,
``ConsumerRebalanceListener``, ``PartitionAssignor``. ``tests/engine/test_faust_holes.py`` says
which hole each closes.

Invariant: Faust's consumer never fetches a record and never commits an offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver

from streams.engine.clients import client_settings
from streams.engine.roles import Committed, Fenced
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

STALE_ERRORS = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
NO_OFFSET = -1


class MembershipLost(Exception):  # noqa: N818 (a state, named for what happened)
    """The group no longer knows this member, though it has a name of its own."""


class Assignor(PartitionAssignor):
    """Faust's assignor, for a named member that comes back at another address.

    The group then hands it the share that its predecessor had, with the predecessor's URL in it.
    Faust asserts that the URL is its own, after having taken the share over; the assertion would
    end the coordinator's task, and the worker would never own anything.
    """

    def on_assignment(self, assignment: Any) -> None:
        """Takes the share, whoever's URL is on it."""
        try:
            super().on_assignment(assignment)
        except AssertionError:
            share = ClientMetadata.loads(self._decompress(assignment.user_data))
            if share.url == str(self._url):
                raise
            log.info("takes over the share of this name at another address")


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Pauses what is assigned before the fetcher of Faust's consumer can ask for it."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Runs in the consumer's thread."""
        partitions = list(assigned)
        consumer = self._thread._ensure_consumer()
        consumer.pause(*partitions)
        await super().on_partitions_assigned(partitions)


class GroupThread(driver.AIOKafkaConsumerThread):
    """The thread that is the member of the group."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        settings: EngineSettings = self.app.engine.settings  # type: ignore[attr-defined]
        # Always Faust's assignor: with no table and no standby Faust would take round-robin, and
        # the partition numbers of a role's topics would part.
        self._assignor = self.app.assignor
        consumer = aiokafka.AIOKafkaConsumer(
            **client_settings(settings, "member"),
            group_id=self.app.conf.id,
            group_instance_id=settings.worker_name or None,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
        )
        # Nobody polls this consumer, and it must not leave the group for that: an open fetch
        # context means "busy". Stuck workers are found by the watchdog.
        self._busy = consumer._subscription.fetch_context()
        self._busy.__enter__()
        return consumer

    async def on_start(self) -> None:
        """Joins as Faust does, and watches the coordinator and a named member's heartbeats."""
        await super().on_start()
        self._ensure_consumer()._coordinator._coordination_task.add_done_callback(self._on_end)
        if self.app.engine.settings.worker_name:  # type: ignore[attr-defined]
            coordinator = self._ensure_consumer()._coordinator
            self._heartbeat = coordinator._do_heartbeat
            coordinator._do_heartbeat = self._do_heartbeat

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Without its coordinator a member never gets a partition again, and nobody sees it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            engine = self.app.engine  # type: ignore[attr-defined]
            self.parent_loop.call_soon_threadsafe(engine.fail, error)

    async def _do_heartbeat(self) -> bool:
        """Two workers with one name would take the membership from each other for ever.

        A heartbeat that makes the coordinator forget its member id was refused: the name is used
        elsewhere, or this process stood still for longer than its session. Both end it.
        """
        alive: bool = await self._heartbeat()
        if not alive and not self._ensure_consumer()._coordinator.member_id:
            engine = self.app.engine  # type: ignore[attr-defined]
            lost = MembershipLost(
                f"the group has dropped {engine.settings.worker_name!r}: another worker uses this"
                " worker_name, or this one stood still for longer than session_timeout"
            )
            self.parent_loop.call_soon_threadsafe(engine.fail, lost)
        return alive

    async def commit_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Commits from the main loop. Raises ``Fenced`` for a stale generation."""
        await self.call_thread(self._commit_positions, positions)

    async def _commit_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        offsets = {
            tp: OffsetAndMetadata(position.offset, position.metadata)
            for tp, position in positions.items()
        }
        try:
            await self._ensure_consumer().commit(offsets)
        except STALE_ERRORS as error:
            raise Fenced(f"the group refused a commit: {error}") from error

    async def committed_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Positions in the group, asked from the main loop."""
        found: dict[TopicPartition, Committed] = await self.call_thread(
            self._committed_positions, partitions
        )
        return found

    async def _committed_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        coordinator = self._ensure_consumer()._coordinator
        offsets = await coordinator.fetch_committed_offsets(list(partitions))
        return {
            tp: Committed(int(found.offset), found.metadata or "")
            for tp, found in offsets.items()
            if found.offset > NO_OFFSET
        }


class GroupConsumer(driver.Consumer):
    """Faust's consumer, of which only the membership is used."""

    RebalanceListener = RebalanceListener

    def _new_consumer_thread(self) -> GroupThread:
        return GroupThread(self, loop=self.loop, beacon=self.beacon)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Nothing is fetched here, so there is nothing to complain of."""

    def _get_active_partitions(self) -> set[Any]:
        # Nothing is Faust's to fetch.
        return set()

    @property
    def member(self) -> GroupThread:
        """The thread, typed."""
        assert isinstance(self._thread, GroupThread)
        return self._thread


class GroupTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = GroupConsumer
