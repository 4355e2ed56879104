"""What a stateful role is made of, and how it becomes a ``RoleSpec``.

The engine finds in it the lanes by their part (control before events), the changelog, and the
logic; ``stateful_role`` (``engine/stateful_role.py``) turns it into runners and standbys.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from aiokafka import TopicPartition

from streams.engine.api import PartitionLogic
from streams.engine.context import Context
from streams.engine.restore import Progress, Restorer
from streams.engine.roles import Lane
from streams.engine.store import PartitionStore
from streams.tables import TableSpec


class StatefulRole(msgspec.Struct, frozen=True):
    """A role whose partitions have state of their own."""

    name: str
    control: Lane
    """Drained before any event: preferences, receipts, cancellations, ..."""
    events: tuple[Lane, ...]
    """In the order in which they go into a batch."""
    table: TableSpec
    logic_factory: Callable[[int], PartitionLogic]
    """Partition number -> its logic. One logic may serve them all."""
    ticks: str = "ticks"
    """Topic of the control lane whose record times move stream time on."""

    writes: tuple[str, ...] = ()
    """Topics that a partition's batches write to, in the partition of the same number."""
    writes_anywhere: tuple[str, ...] = ()
    """Topics that they write to in a partition of any number."""
    not_again: tuple[str, ...] = ()
    """Topics of the control lane that say what to do next and not how things are: when state was
    lost they go on where the group was, or what was done would be done once more."""

    @property
    def changelog(self) -> str:
        """Topic that the state is restored from."""
        return self.table.changelog

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Control first."""
        return (self.control, *self.events)

    @property
    def topics(self) -> tuple[str, ...]:
        """Every input topic."""
        return tuple(topic for lane in self.lanes for topic in lane.topics)

    @property
    def lanes_that_hold_timers(self) -> tuple[Lane, ...]:
        """Lanes whose backlog nothing may fire ahead of."""
        return tuple(lane for lane in self.lanes if lane.holds_timers)

    def folder(self, context: Context) -> Path:
        """Where a partition's database is."""
        return Path(context.settings.data_folder) / self.name / f"partition-{context.partition:05}"

    def restorer(self, context: Context, store: PartitionStore, logic: PartitionLogic) -> Restorer:
        """Follows the changelog of the context's partition into ``store``."""
        worker = context.worker
        tp = TopicPartition(self.changelog, context.partition)

        def note(progress: Progress) -> None:
            context.progress()
            context.metrics.restore_left.set(max(0, progress.end - progress.position))

        return Restorer(tp, store, logic, worker.changelog, worker.ends, context.settings, note)
