"""A warm copy of a partition that another worker owns.

It follows the changelog by the same code that a restore uses, into a database of the same name;
so a promotion is a restore that has little left to do.

Invariant: nothing is written here but what is committed in the changelog, and nothing is produced.
"""

from __future__ import annotations

from streams.engine.context import Context
from streams.engine.restore import Restorer
from streams.engine.roles import RunnerStatus
from streams.engine.stateful import StatefulRole
from streams.engine.store import PartitionStore


class StandbyRunner:
    """A warm copy of a partition that another worker owns. Implements ``PartitionRunner``."""

    def __init__(self, context: Context, role: StatefulRole) -> None:
        self._context = context
        self._store = PartitionStore(role.folder(context), context.worker.memory)
        self._restorer: Restorer = role.restorer(
            context, self._store, role.logic_factory(context.partition)
        )

    async def start(self) -> None:
        """Opens what is there and catches up."""
        self._context.metrics.enter("standby")
        await self._restorer.begin()

    async def run(self) -> None:
        """Follows the changelog until cancelled."""
        await self._restorer.follow()

    def status(self) -> RunnerStatus:
        """How it is, for people."""
        return RunnerStatus(
            state="standby",
            state_bytes=self._store.size_bytes() if self._store.is_open else None,
            restored=self._restorer.progress.position,
            restore_end=self._restorer.end_known,
        )

    async def stop(self, graceful: bool) -> None:
        """Closes the store; what it has is a head start for whoever opens it next."""
        self._restorer.leave()
        self._store.close()
        self._context.metrics.enter(None)
