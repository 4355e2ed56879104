"""Restores a partition's local state from its changelog, and keeps standbys warm.

Faust's own recovery waits for the record before the high water mark, which after a transaction is
a marker that never comes; it reads uncommitted records and swallows errors. So this follows the
changelog itself: committed records only, in large batches, up to the last stable offset that was
looked up *after* the previous owner had been fenced.

What it can find, and what it does:

===================================================  =========================================
the database says how far it got, and the log goes   continue from there
  at least so far
nothing local                                        read everything
the database is ahead of the log                     wipe, read everything
the database was not written for two days            wipe, read everything: deletions in between
                                                       may be gone from the log
the log begins after what the database has           wipe, read what there is, and ``StateLost``
===================================================  =========================================

``StateLost`` is for whoever decides: the copy itself remembers where the log began for it
(``since``), so that a second start, or a standby that takes over, is refused as well.

Invariants: the database never holds what is not committed; a restore ends (the end is fixed before
it begins); an error ends the process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import msgspec
from aiokafka import TopicPartition

from streams.engine.api import Due, PartitionLogic, Record
from streams.engine.clock import wall_ms
from streams.engine.reader import SharedReader, wait_for_arrival
from streams.engine.settings import EngineSettings
from streams.engine.snapshots import EndOffsets
from streams.engine.store import Followed, PartitionStore

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
COPY_AGE_HOURS_MAX = 48
"""A day less than deletions stay in the log (``topics_admin.DELETED_KEPT_HOURS``). Whoever comes
back later has not seen what was deleted meanwhile, and would bring it back to life."""


class StateLost(Exception):  # noqa: N818 (a state, named for what happened)
    """The changelog does not hold the whole state any more; going on would forget opt-outs."""


class Progress(msgspec.Struct):
    """How far a restore is, for pages and metrics."""

    position: int = 0
    end: int = 0
    records: int = 0
    done: bool = False


class Restorer:
    """Follows the changelog of one partition into its store."""

    def __init__(
        self,
        tp: TopicPartition,
        store: PartitionStore,
        logic: PartitionLogic,
        reader: SharedReader,
        ends: EndOffsets,
        settings: EngineSettings,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._tp = tp
        self._store = store
        self._logic = logic
        self._reader = reader
        self._ends = ends
        self._settings = settings
        self._on_progress = on_progress
        self.progress = Progress()
        self.since = 0
        """Where the log began for this copy; above 0 the log had lost its beginning before."""

    async def begin(self) -> None:
        """Opens the store, decides where to read from, and joins the shared reader."""
        wiped = self._store.open()
        if wiped:
            log.warning("partition %d: local state wiped: %s", self._tp.partition, wiped)
        end = (await self._ends.get([self._tp]))[self._tp]
        start = (await self._reader.beginning_offsets([self._tp]))[self._tp]
        position = self._where_to_begin(start, end)
        self.progress = Progress(position=position, end=end)
        self._reader.add({self._tp: position})

    def _where_to_begin(self, start: int, end: int) -> int:
        followed = self._store.followed()
        if followed is not None and (wrong := self._why_not(followed, start, end)):
            log.warning("partition %d: local state %s: wiped", self._tp.partition, wrong)
            self._store.start_over()
            followed = None
        if followed is None:
            # Compaction keeps the log's start at 0; only deletion moves it.
            self.since = start
            return start
        self.since = followed.since
        return followed.next_offset

    def _why_not(self, followed: Followed, start: int, end: int) -> str:
        """Why the local copy cannot be gone on with; empty if it can."""
        if followed.topic != self._tp.topic:
            return "is of another changelog"
        if followed.next_offset > end:
            return f"is at {followed.next_offset}, its changelog ends at {end}"
        if followed.next_offset < start:
            return f"is at {followed.next_offset}, its changelog begins at {start}"
        if followed.since > start:
            return f"began at {followed.since}, and its changelog begins at {start} now"
        age_h = (wall_ms() - followed.at_ms) / HOUR_MS if followed.at_ms else 0.0
        if age_h > COPY_AGE_HOURS_MAX:
            return f"has not followed its changelog for {age_h:,.0f} hours"
        return ""

    async def to_the_end(self) -> None:
        """Restores up to the last stable offset as it is now."""
        self.progress.end = (await self._ends.get([self._tp]))[self._tp]
        logged_at = time.monotonic()
        while self._reader.position(self._tp) < self.progress.end:
            if not self.apply_available():
                await wait_for_arrival([self._reader], timeout_s=1.0)
            if (time.monotonic() - logged_at) * 1000 > self._settings.restore_log_ms:
                logged_at = time.monotonic()
                log.info(
                    "partition %d: restoring, %d of %d",
                    self._tp.partition, self.progress.position, self.progress.end,
                )  # fmt: skip
        self.progress.position = self._reader.position(self._tp)
        self.progress.done = True
        self._on_progress(self.progress)

    async def follow(self) -> None:
        """Keeps a standby warm until cancelled."""
        while True:
            if not self.apply_available():
                await wait_for_arrival([self._reader], timeout_s=1.0)

    def apply_available(self) -> int:
        """Applies what has arrived; returns how many records that was."""
        records = self._reader.drain(self._tp, self._settings.restore_records_max)
        if records:
            self._apply(records)
            self.progress.records += len(records)
            self.progress.position = self._reader.position(self._tp)
            self._on_progress(self.progress)
        return len(records)

    def _apply(self, records: Sequence[Record]) -> None:
        latest = {record.key: record.value for record in records if record.key is not None}
        due = self._due_changes(latest)
        position = self._reader.position(self._tp)
        followed = Followed(self._tp.topic, position, self.since, wall_ms())
        # In order they go into RocksDB's table in two thirds of the time.
        self._store.write(sorted(latest.items()), due, followed)

    def _due_changes(self, latest: dict[bytes, bytes | None]) -> list[Due]:
        due_of = self._logic.due_of
        new = {key: entry for key, value in latest.items() if (entry := due_of(key, value))}
        keys = list(new)
        changes = []
        for key, old_value in zip(keys, self._store.get_many(keys), strict=True):
            old = due_of(key, old_value) if old_value is not None else None
            old_ms = None if old is None else old.new_ms
            changes.append(Due(new[key].owner, old_ms, new[key].new_ms))
        return changes

    @property
    def end_known(self) -> int:
        """Where the changelog ends, as far as it has been seen."""
        seen = self._reader.stable_end(self._tp) if self._tp in self._reader.assigned() else None
        return max(self.progress.end, seen or 0, self.progress.position)

    def leave(self) -> None:
        """Leaves the shared reader; the store stays open."""
        if self._tp in self._reader.assigned():
            self._reader.remove([self._tp])
