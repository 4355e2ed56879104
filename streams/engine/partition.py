"""One partition of a stateful role: the batch protocol, from the fence to the offsets.

A Kafka transaction per batch, with the local store behind it, as Kafka Streams does and KIP-892
argues::

    start   producer (fences the previous owner) -> end of changelog -> restore -> fence -> seek
    batch   take -> prepare -> process (pure) -> transaction: outputs, state, fence
            -> store: state, due index, changelog offset in one write -> offsets, for displays
    wake    what is due by the horizon, through the same transaction and the same write

A crash anywhere loses nothing and repeats nothing: the transaction is all or none, the store is
never ahead of it, and a previous owner's epoch is dead before this one looks at anything.

Invariants: one task per partition does all of this, so no two batches of it overlap; nothing is
processed before the control topics were drained once; a failure is never continued from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from msgspec.structs import replace

from streams.engine import fence
from streams.engine.api import Batch, Due, PartitionLogic, Result, TemporarilyUnavailable
from streams.engine.clock import wall_ms
from streams.engine.context import Context
from streams.engine.order import Taken, Turns, WallOrder
from streams.engine.roles import RunnerStatus
from streams.engine.starting import where_to_begin
from streams.engine.stateful import StatefulRole
from streams.engine.store import Followed, PartitionStore
from streams.engine.stream_order import StreamOrder
from streams.engine.timers import horizon_ms
from streams.engine.transaction import PartitionProducer
from streams.tables import FENCE

log = logging.getLogger(__name__)

Order = WallOrder | StreamOrder


class StatefulRunner:
    """Owns everything of one partition. Implements ``PartitionRunner``."""

    def __init__(self, context: Context, role: StatefulRole, turns: Mapping[str, Turns]) -> None:
        self._context = context
        self._role = role
        self._logic: PartitionLogic = role.logic_factory(context.partition)
        self._stream_time = context.settings.clock == "stream"
        self._order = self._new_order(turns)
        self._store = PartitionStore(role.folder(context), context.worker.memory)
        self._restorer = role.restorer(context, self._store, self._logic)
        self._producer = PartitionProducer(
            role.name, context.partition, context.settings, context.worker.crash_points,
            writes=(*role.writes, role.changelog), writes_anywhere=role.writes_anywhere,
            on_told_again=context.metrics.told_again.inc,
        )  # fmt: skip
        self._fence = fence.Fence(positions={})
        self._fenced: dict[str, int] = {}
        """Positions in the latest fence record."""
        self._batch_began: dict[str, int] = {}
        self._followed = Followed(role.changelog, 0)
        self._append_times: dict[str, int] = {}
        self._unwritten_since: float | None = None
        self._began_at = time.monotonic()
        self._catch_up_noted = False
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def _new_order(self, turns: Mapping[str, Turns]) -> Order:
        role, context = self._role, self._context
        if self._stream_time:
            return StreamOrder(
                context, role.control, role.events, role.ticks, context.settings.batch_records_max
            )
        return WallOrder(context, role.control, role.events, turns)

    @property
    def state(self) -> PartitionStore:
        """The partition's state, for readers; open between ``start`` and ``stop``."""
        return self._store

    @property
    def caught_up(self) -> bool:
        """Whether the control topics were drained once: before, the state may be an old one."""
        return self._order.caught_up

    # -- life

    async def start(self) -> None:
        """Fences the previous owner, restores, seeks."""
        context = self._context
        context.metrics.enter("restoring")
        began = time.monotonic()
        await self._producer.start()
        await self._restorer.begin()
        await self._restorer.to_the_end()
        self._restorer.leave()
        progress = self._restorer.progress
        self._followed = self._followed_to(progress.position)
        value = self._store.get(FENCE)
        self._fence = fence.Fence(positions={}) if value is None else fence.decode(value)
        self._fenced = self._fence.positions
        lost = self._restorer.since > self._fence.whole_from
        beginning = await where_to_begin(
            context, self._role, self._fence, value is not None and not lost
        )
        positions = beginning.positions
        self._fence = replace(
            _with_positions(self._fence, positions), read_again=beginning.read_again
        )
        if lost:
            # It was to be rebuilt: from now on, and for whoever follows, this is all there is.
            self._fence = replace(self._fence, whole_from=self._restorer.since)
            self._unwritten_since = time.monotonic()
        context.seek(positions)
        if value is not None:
            # The owner before may have died between its commit and telling the group of it.
            # Never without a fence: positions in the group with none mean that state was lost.
            context.worker.offsets.note({context.tp(t): at for t, at in positions.items()})
        context.metrics.enter("catching up")
        log.info(
            "partition %d: restored %d changelog records in %.1f s",
            context.partition, progress.records, time.monotonic() - began,
        )  # fmt: skip

    async def run(self) -> None:
        """Batches and wake-ups until stopped."""
        tick_s = self._context.settings.tick_ms / 1000
        next_tick = time.monotonic() + tick_s
        self._began_at = time.monotonic()
        self._idle.clear()
        try:
            while not self._stopping.is_set():
                left = next_tick - time.monotonic()
                taken = await self._order.take(max(0.0, left))
                if taken.records and not self._stopping.is_set():
                    began = time.monotonic()
                    await self._decide(taken)
                    await self._order.batch_done(time.monotonic() - began)
                if self._stream_time or time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + tick_s
                    await self._tick()
        finally:
            self._idle.set()

    async def stop(self, graceful: bool) -> None:
        """Finishes the batch that is being decided, writes what is left, frees everything."""
        self._stopping.set()
        try:
            if graceful:
                await self._idle.wait()
                if self._unwritten_since is not None:
                    await self._write(Result(), "idle", self._fence, self._fence.clock_ms)
                # However long nothing was written, up to now this copy knows of every deletion.
                self._store.write((), (), self._followed_to(self._followed.next_offset))
                await self._producer.look_whether_heard()
                await self._context.worker.offsets.flush(self._context.partition)
        finally:
            # Turns are the worker's: one that is not given up here nobody ever has again.
            await self._order.stop()
            self._restorer.leave()
            await self._producer.stop()
            self._store.close()
            self._context.metrics.enter(None)

    def status(self) -> RunnerStatus:
        """How it is, for people."""
        progress, followed = self._restorer.progress, self._followed.next_offset
        return RunnerStatus(
            state=self._context.metrics.entered,
            state_bytes=self._store.size_bytes() if self._store.is_open else None,
            restored=max(progress.position, followed),
            restore_end=max(progress.end, followed),
        )

    # -- batches

    async def _decide(self, taken: Taken) -> None:
        context, fenced = self._context, self._fence
        if not await self._prepared(taken):
            return
        clock_ms = fenced.clock_ms
        if not self._stream_time:
            clock_ms = max(clock_ms, context.now_ms())
        if fenced.read_again:
            fenced = replace(fenced, read_again=fence.read_again_after(fenced))
        batch = Batch(
            context.partition, clock_ms, taken.records, self._stream_time, fenced.read_again
        )
        began = time.perf_counter()
        result = await context.worker.step(lambda: self._logic.process(batch, self._store))
        context.metrics.process_seconds.observe(time.perf_counter() - began)
        context.metrics.batch_records.observe(len(taken.records))
        context.metrics.records.inc(len(taken.records))
        after_ms = self._logic.clock_after(batch) if self._stream_time else clock_ms
        for record in taken.records:
            self._append_times[record.topic] = record.timestamp
        self._batch_began = fenced.positions
        self._fence = _with_positions(fenced, taken.positions)
        await self._apply(result, "batch", clock_ms, after_ms)
        context.progress()

    async def _prepared(self, taken: Taken) -> bool:
        """Whether the logic has what it needs; waits for it, unless stopped meanwhile."""
        settings = self._context.settings
        warned = False
        while not self._stopping.is_set():
            try:
                await self._logic.prepare(taken.records)
            except TemporarilyUnavailable as reason:
                if not warned:
                    log.warning("partition %d waits: %s", self._context.partition, reason)
                    warned = True
                self._context.progress()
                self._order.let_others()
                await asyncio.sleep(settings.retry_unavailable_ms / 1000)
            else:
                return True
        return False

    async def _apply(self, result: Result, kind: fence.Kind, now_ms: int, clock_ms: int) -> None:
        moved = clock_ms != self._fence.clock_ms and self._stream_time
        if result.outputs or result.changes or moved:
            await self._write(result, kind, self._fence, clock_ms, now_ms)
            return
        if result.due:
            self._store.write((), result.due, self._followed)
        if self._unwritten_since is None:
            self._unwritten_since = time.monotonic()

    async def _write(
        self,
        result: Result,
        kind: fence.Kind,
        fenced: fence.Fence,
        clock_ms: int,
        now_ms: int = 0,
    ) -> None:
        """The transaction, then the store, then the offsets."""
        context = self._context
        self._fence = replace(
            fenced,
            clock_ms=max(clock_ms, fenced.clock_ms),
            kind=kind,
            now_ms=now_ms,
            policy_version=result.policy_version or getattr(self._logic, "policy_version", ""),
            batch_number=fenced.batch_number + 1,
            began=self._differently(self._batch_began) if kind == "batch" else {},
        )
        changes = [*result.changes.items(), (FENCE, fence.encode(self._fence))]
        began = time.perf_counter()
        next_offset = await self._producer.write(result.outputs, self._role.changelog, changes)
        context.metrics.commit_seconds.observe(time.perf_counter() - began)
        context.crash_point("before_store_write")
        self._followed = self._followed_to(next_offset)
        self._store.write(changes, result.due, self._followed)
        self._fenced = self._fence.positions
        context.crash_point("after_store_write")
        self._unwritten_since = None
        context.crash_point("before_offset_commit")
        covered = {context.tp(topic): at for topic, at in self._fence.positions.items()}
        context.worker.offsets.note(covered)

    def _followed_to(self, next_offset: int) -> Followed:
        """That this copy has everything before ``next_offset``, as of now."""
        return Followed(self._role.changelog, next_offset, self._restorer.since, wall_ms())

    def _differently(self, began: dict[str, int]) -> dict[str, int]:
        """Where a batch began, of topics whose fenced position says something else."""
        return {t: at for t, at in began.items() if at != self._fenced.get(t, 0)}

    # -- time

    async def _tick(self) -> None:
        settings = self._context.settings
        self._note_catch_up()
        if self._order.caught_up and not self._order.holding:
            self._context.metrics.enter("running")
            while await self._wake() and self._stream_time and not self._stopping.is_set():
                pass
            self._pass_markers()
        unwritten_s = time.monotonic() - (self._unwritten_since or time.monotonic())
        if unwritten_s * 1000 >= settings.idle_fence_ms:
            await self._write(Result(), "idle", self._fence, self._fence.clock_ms)
        await self._producer.look_whether_heard()

    def _pass_markers(self) -> None:
        """Moves on past what the end of a transaction left behind a topic's last record.

        Nothing comes with it, so no batch covers it, and the lag would be shown as 1 for ever.
        """
        if self._stream_time or self._stopping.is_set():
            # What was read ahead, or taken and left for the next owner, is behind the reader's
            # position too, and nobody has decided it.
            return
        position, fenced = self._context.position, self._fence.positions
        moved = {t: at for t, old in fenced.items() if (at := position(t)) > old}
        if moved:
            self._fence = _with_positions(self._fence, moved)
            if self._unwritten_since is None:
                self._unwritten_since = time.monotonic()

    def _note_catch_up(self) -> None:
        """Says once when no event has been decided yet because control topics take so long."""
        waited_ms = (time.monotonic() - self._began_at) * 1000
        late = waited_ms > self._context.settings.first_catch_up_ms_log
        if late and not self._order.caught_up and not self._catch_up_noted:
            self._catch_up_noted = True
            log.warning(
                "partition %d still catches up its control topics; no event is decided before",
                self._context.partition,
            )

    async def _wake(self) -> bool:
        """Releases what is due, at most ``wake_owners_max`` owners. Whether there was anything."""
        context, store = self._context, self._store
        latest_ms = self._fence.clock_ms if self._stream_time else context.now_ms()
        first = store.due_until(latest_ms, 1)
        context.metrics.due_overdue_ms.set(latest_ms - first[0][0] if first else 0)
        if not first:
            return False
        until_ms = latest_ms
        if not self._stream_time:
            until_ms = await horizon_ms(
                context, self._role.lanes_that_hold_timers, self._fence.positions,
                self._append_times, latest_ms,
            )  # fmt: skip
        due = store.due_until(until_ms, context.settings.wake_owners_max)
        if not due or self._stopping.is_set():
            return False
        result = await context.worker.step(
            lambda: self._logic.wake(context.partition, due, until_ms, store, self._stream_time)
        )
        answered = [Due(owner, due_ms, None) for due_ms, owner in due]
        # Whatever the logic says, an entry that fired is gone, or it would fire for ever.
        result.due = [*answered, *result.due]
        await self._apply(result, "wake", until_ms, self._fence.clock_ms)
        context.metrics.woken.inc(len(due))
        context.progress()
        return True


def _with_positions(fenced: fence.Fence, positions: dict[str, int]) -> fence.Fence:
    return replace(fenced, positions={**fenced.positions, **positions})
