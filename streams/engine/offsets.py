"""Group offsets of stateful roles: for lag displays, and never more often than needed.

The fence record is the truth; these are what ``kafka-consumer-groups`` and dashboards read. So
they are gathered over all partitions of a worker and committed together.

Invariant: a position is noted only after what it covers was committed and stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.engine.roles import Committed, Fenced

log = logging.getLogger(__name__)


class Membership(Protocol):
    """The group, as the engine needs it."""

    async def committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Positions in the group; partitions never committed are missing."""

    async def commit_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Commits; raises ``Fenced`` for a stale generation."""


class OffsetCommitter:
    """Commits noted positions every ``interval_ms``."""

    def __init__(self, membership: Membership, interval_ms: int) -> None:
        self._membership = membership
        self._interval_s = interval_ms / 1000
        self._noted: dict[TopicPartition, int] = {}
        self._sent: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._on_death: Callable[[BaseException], None] | None = None

    def note(self, positions: Mapping[TopicPartition, int]) -> None:
        """Positions to be committed soon."""
        self._noted.update(positions)

    def start(self, on_death: Callable[[BaseException], None] | None = None) -> None:
        """Begins to commit; ``on_death`` hears of an error that is neither expected above."""
        self._on_death = on_death
        self._task = asyncio.create_task(self._run(), name="offsets")

    async def stop(self) -> None:
        """Ends; what was noted for a partition was flushed when it was given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def flush(self, partition: int | None = None) -> None:
        """Commits what was noted now: of one partition (which is then forgotten), or of all."""
        chosen = {tp: at for tp, at in self._noted.items() if partition in (None, tp.partition)}
        changed = {tp: Committed(at) for tp, at in chosen.items() if self._sent.get(tp) != at}
        if partition is not None:
            for tp in chosen:
                self._noted.pop(tp)
                self._sent.pop(tp, None)
        if not changed:
            return
        try:
            await self._membership.commit_positions(changed)
        except Fenced:
            # Only displays suffer: the fence record decides where anybody goes on.
            log.info("group offsets not committed: the group is rebalancing")
            return
        except KafkaError as error:
            # Nor must an outage end this task: the displays would stand still for ever.
            log.warning("group offsets not committed: %s", error)
            return
        if partition is None:
            self._sent.update({tp: committed.offset for tp, committed in changed.items()})

    async def _run(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                await self.flush()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._on_death is None:
                raise
            self._on_death(error)
