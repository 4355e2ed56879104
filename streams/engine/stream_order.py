"""Stream mode: events of all lanes in order of record time, as far as the ticks say it is safe.

In a backtest (and in the demo) the clock is the records' own, so the result must depend on times
and not on which connection was faster. The control lane is drained first, as in wall mode. Event
records are merged by timestamp, ties in the order of the lanes. A tick of time T on a partition
says: whatever is earlier than T has been acknowledged. So records up to the latest tick can be
merged for good; later ones wait for the next tick, or until nothing at all has arrived for
``stream_idle_ms`` (then what is there is what there is: a stream without ticks moves too).

Invariants: two runs over the same logs with ticks take the same records in the same order; a
record is never covered before it was returned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from streams.engine.api import Record
from streams.engine.context import Context
from streams.engine.order import WAIT_S, Control, Taken
from streams.engine.roles import Lane

CHUNK_RECORDS = 500


class _Head:
    """One topic's records that were fetched and not returned."""

    def __init__(self, topic: str, rank: int) -> None:
        self.topic = topic
        self.rank = rank
        self.records: deque[Record] = deque()
        self.fetched_to = 0
        """Position after everything in ``records``."""
        self.released_to = 0
        """Offsets below this need not wait for a tick."""

    def fill(self, context: Context) -> None:
        """Takes a chunk from the reader when there is nothing left."""
        if not self.records:
            self.records.extend(context.drain((self.topic,), CHUNK_RECORDS))
            self.fetched_to = context.position(self.topic)

    def covered(self) -> int:
        """Position after everything that was returned."""
        return self.records[0].offset if self.records else self.fetched_to


class StreamOrder:
    """The order of taking in stream mode; see the module's text."""

    def __init__(
        self,
        context: Context,
        control: Lane,
        events: Sequence[Lane],
        ticks: str,
        records_max: int,
    ) -> None:
        self._context = context
        timeless = tuple(topic for topic in control.topics if topic != ticks)
        self._control = Control(context, Lane(control.name, timeless, control.records_max))
        topics = [topic for lane in events for topic in lane.topics]
        self._heads = [_Head(topic, rank) for rank, topic in enumerate([*topics, ticks])]
        self._ticks = self._heads[-1]
        self._tick_ms = 0
        self._records_max = records_max
        self._topics = (*timeless, *topics, ticks)
        self._ends: dict[str, int] = {}
        self._ends_moved_at = time.monotonic()
        self._until: dict[str, int] | None = None
        self.caught_up = False
        """Whether the control topics were drained once since the start."""

    @property
    def holding(self) -> bool:
        """Whether something was fetched that waits for the control topics to be drained."""
        return self._until is not None

    async def take(self, timeout_s: float) -> Taken:
        """The next batch, or an empty one after ``timeout_s``."""
        if self._until is None:
            # The ends are asked for after the heads and ticks were fetched: whatever was
            # acknowledged before them is before these ends.
            self._fill()
            ends = await self._context.end_offsets(self._topics)
            self._note_ends(ends)
            self._until = {topic: ends[topic] for topic in self._control.topics}
        taken = await self._control.take_towards(self._until)
        if not self._control.reached(self._until):
            return taken
        self._until = None
        self.caught_up = True
        self._merge_into(taken)
        if not taken.records:
            await self._context.wait(self._topics, timeout_s or WAIT_S)
        return taken

    async def batch_done(self, took_s: float = 0.0) -> None:
        """Nothing is shared between partitions here."""

    def let_others(self) -> None:
        """Nothing is shared between partitions here."""

    async def stop(self) -> None:
        """Nothing to give back."""

    def _fill(self) -> None:
        for head in self._heads:
            head.fill(self._context)
        if self._ticks.records:
            self._tick_ms = max(self._tick_ms, *(r.timestamp for r in self._ticks.records))

    def _note_ends(self, ends: dict[str, int]) -> None:
        moved = any(self._ends.get(head.topic) != ends[head.topic] for head in self._heads)
        self._ends = ends
        if moved:
            self._ends_moved_at = time.monotonic()
        idle_ms = (time.monotonic() - self._ends_moved_at) * 1000
        if idle_ms >= self._context.settings.stream_idle_ms:
            for head in self._heads:
                head.released_to = ends[head.topic]

    def _merge_into(self, taken: Taken) -> None:
        touched = set()
        while len(taken.records) < self._records_max:
            head = self._next()
            if head is None:
                break
            taken.records.append(head.records.popleft())
            touched.add(head)
            if not head.records:
                head.fill(self._context)
        for head in touched:
            taken.positions[head.topic] = head.covered()

    def _next(self) -> _Head | None:
        """The topic with the earliest record, when no other can still bring an earlier one."""
        waiting = [head for head in self._heads if head.records]
        if not waiting:
            return None
        exhausted = all(
            head.records or head.fetched_to >= self._ends[head.topic] for head in self._heads
        )
        if not exhausted:
            return None
        head = min(waiting, key=lambda h: (h.records[0].timestamp, h.rank))
        record = head.records[0]
        safe = record.timestamp <= self._tick_ms or record.offset < head.released_to
        return head if safe else None
