"""The ledger step: takes decisions, outcomes and receipts, and files them.

One ``LedgerRunner`` per owned partition. Its topics are its changelog: rows, counters and the
offsets behind them are one write, so after any crash it seeks to its own offsets and goes on; the
group's offsets are only for lag displays, and carry the address at which this worker answers.

Invariants: nothing is counted twice or left out, whatever dies when; a record that cannot be read
is counted and passed by; a partition answers questions only once it has caught up with where its
topics ended when it was taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rocksdict import Cache

from streams import topics
from streams.agents.ledger_filing import Filing
from streams.codec import Codec
from streams.engine.api import Record, TemporarilyUnavailable
from streams.engine.roles import (
    Committed,
    Lane,
    PartitionContext,
    RoleSpec,
    RunnerStatus,
    WorkerService,
)
from streams.engine.settings import EngineSettings
from streams.ledger.database import is_damage
from streams.ledger.directory import address_metadata
from streams.ledger.hours_log import HoursLog, KafkaHours
from streams.ledger.looks import Looks
from streams.ledger.queries import LedgerQueries
from streams.ledger.rows import DAY_MS, HOUR_MS
from streams.ledger.sampling import Sampling
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from streams.privacy import PrivacySettings, Pseudonyms
from streams.web.access import Access
from streams.web.ledger_pages import LedgerWeb

log = logging.getLogger(__name__)
UNSURE_HOURS = 2
"""Latest hours whose counters are written again at a start."""
TOPICS = (topics.ERASURES, topics.DECISIONS, topics.OUTCOMES, topics.RECEIPTS)


class Pages(WorkerService, Protocol):
    """Pages that are mounted beside the ledger's own."""

    def mount(self, faust_app: Any) -> None:
        """Adds them to the worker's web server."""


MakePages = Callable[[LedgerWeb, Looks], Pages]


class PositionBeyondEndError(Exception):
    """The ledger has read further than its topic goes: the topic is not the one it was."""


class LedgerRunner:
    """One partition of the ledger. Implements ``PartitionRunner``."""

    def __init__(
        self,
        partition: int,
        context: PartitionContext,
        settings: LedgerSettings,
        codec: Codec,
        web: LedgerWeb,
        cache: Cache,
        privacy: PrivacySettings | None = None,
        bulk: Collection[str] = (),
        hours: HoursLog | None = None,
    ) -> None:
        """``bulk``: categories of which only ``settings.bulk_kept_share`` is kept."""
        self._hours = hours
        self.partition = partition
        self._context = context
        self._settings = settings
        self._codec = codec
        self._web = web
        self._metrics = web.metrics
        self._cache = cache
        privacy = privacy or PrivacySettings()
        sampling = Sampling(settings.bulk_kept_share, frozenset(bulk))
        self._filing = Filing(codec, Pseudonyms(privacy), sampling)
        self._marks_kept_ms = privacy.forgotten_days * DAY_MS
        self._store: LedgerStore | None = None
        self._caught_up_at: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    # ------------------------------------------------------------------------ engine's contract

    async def start(self) -> None:
        """Opens the partition's ledger and seeks to where it left off."""
        folder = Path(self._context.settings.data_folder) / "ledger"
        store = LedgerStore(folder, self.partition, self._settings, self._cache)
        self._store = store
        ends = await self._context.end_offsets(TOPICS)
        beginnings = await self._context.beginning_offsets(TOPICS)
        stored = store.offsets()
        if self._hours is not None:
            if not stored:
                store.counters.know(await self._hours.read(self.partition))
            # What the owner before counted last may not have been written.
            store.counters.changed_since(max(0, store.newest_ms // HOUR_MS - UNSURE_HOURS))
        for topic in TOPICS:
            self._positions[topic] = self._first_position(
                store, topic, stored.get(topic), beginnings[topic], ends[topic]
            )
        self._caught_up_at = dict(ends)
        self._context.seek(self._positions)
        self._web.take_over(self.partition, LedgerQueries(store, self._codec), self._is_ready)
        await self._commit()

    async def run(self) -> None:
        """Takes, files, commits, until stopped."""
        self._idle.clear()
        try:
            await self._run()
        finally:
            self._idle.set()

    async def stop(self, graceful: bool) -> None:
        """Finishes the batch at hand and closes the files."""
        self._stopping = True
        self._web.give_up(self.partition)
        if graceful:
            await self._idle.wait()
        store, self._store = self._store, None
        if store is None:
            return
        if graceful:
            with contextlib.suppress(Exception):
                # For displays only: where to go on is in the store.
                await self._commit()
            await self._write_hours(store)
            store.sync()
        store.close()

    def status(self) -> RunnerStatus:
        """How it is, for people."""
        return RunnerStatus(
            state="" if self._is_ready() else "catching up",
            state_bytes=None if self._store is None else self._store.size_bytes(),
        )

    # -------------------------------------------------------------------------------- its work

    async def _run(self) -> None:
        settings = self._settings
        commit = _Every(settings.commit_ms)
        sync = _Every(settings.sync_ms)
        retention = _Every(settings.retention_check_ms)
        hours = _Every(settings.hours_log_ms)
        while not self._stopping:
            records = await self._context.take(
                TOPICS, settings.records_max, settings.take_timeout_ms
            )
            store = self._store
            if store is None:
                return
            if records:
                await self._file(store, records)
            self._positions = {topic: self._context.position(topic) for topic in TOPICS}
            if sync.is_due():
                store.sync()
            if commit.is_due() and self._positions != self._committed:
                await self._commit()
            if retention.is_due():
                self._drop_old(store)
            if hours.is_due():
                await self._write_hours(store)

    async def _write_hours(self, store: LedgerStore) -> None:
        """Writes what the hours' counters are now; what fails is written the next time."""
        if self._hours is None:
            return
        changed = store.counters.take_changed()
        if changed and not await self._hours.write(self.partition, changed):
            store.counters.give_back(changed)

    async def _file(self, store: LedgerStore, records: Sequence[Record]) -> None:
        """One batch: read, write, all of it or nothing."""
        if not await self._prepare(records):
            return
        started = time.perf_counter()
        found, erasing, unreadable = self._filing.read(records, store.marks)
        offsets = {record.topic: record.offset + 1 for record in records}
        try:
            store.write(found, offsets, erasing)
        except Exception as error:
            if is_damage(error):
                store.mark_damaged()
            raise
        if erasing is not None and erasing.touched:
            await self._compact(store, erasing.touched)
        self._context.progress()
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        for topic, count in Counter(record.topic for record in records).items():
            self._metrics.records.labels(topic).inc(count)
        if unreadable:
            self._metrics.unreadable.inc(unreadable)
            log.warning(
                "%d records of partition %d could not be read and are not in the ledger",
                unreadable,
                self.partition,
            )

    async def _compact(self, store: LedgerStore, buckets: Mapping[int, int]) -> None:
        """Takes deleted rows off the disk, beside the loop; the partition's task waits for it."""
        began = time.perf_counter()
        for number in sorted(buckets):
            if not self._stopping:
                await asyncio.to_thread(store.compact, number)
        log.info(
            "partition %d: erased %d keys; rewrote %d buckets in %.1f s",
            self.partition, sum(buckets.values()), len(buckets), time.perf_counter() - began,
        )  # fmt: skip

    async def _prepare(self, records: Sequence[Record]) -> bool:
        """Waits for whatever decoding needs; False when stopped before it was there."""
        values = [record.value for record in records if record.topic == topics.RECEIPTS]
        while values:
            try:
                await self._codec.prepare(values)
                break
            except TemporarilyUnavailable as error:
                log.warning("partition %d of the ledger waits: %s", self.partition, error)
                await asyncio.sleep(self._settings.retry_unavailable_ms / 1000)
                if self._stopping:
                    return False
        return True

    def _first_position(
        self, store: LedgerStore, topic: str, stored: int | None, beginning: int, end: int
    ) -> int:
        if stored is None:
            return beginning
        if stored > end:
            raise PositionBeyondEndError(
                f"the ledger has read {topic} of partition {self.partition} up to {stored}, but it"
                f" ends at {end}: the topic was made anew, or the log lost records. Restore the"
                f" topic, or remove the folder ledger/{self.partition} to begin again."
            )
        if stored < beginning:
            store.note_lost(beginning - stored)
            self._metrics.lost.inc(beginning - stored)
            log.error(
                "%d records of %s, partition %d, were deleted before the ledger read them",
                beginning - stored,
                topic,
                self.partition,
            )
            return beginning
        return stored

    def _is_ready(self) -> bool:
        return all(self._positions.get(t, 0) >= end for t, end in self._caught_up_at.items())

    async def _commit(self) -> None:
        metadata = address_metadata(self._web.url)
        await self._context.commit(
            {topic: Committed(offset, metadata) for topic, offset in self._positions.items()}
        )
        self._committed = dict(self._positions)

    def _drop_old(self, store: LedgerStore) -> None:
        for reason, count in store.drop_old().items():
            self._metrics.dropped.labels(reason).inc(count)
            log.info("partition %d: dropped %d buckets (%s)", self.partition, count, reason)
        store.marks.drop_before(store.newest_ms - self._marks_kept_ms)
        partition = str(self.partition)
        self._metrics.bytes.labels(partition).set(store.size_bytes())
        self._metrics.buckets.labels(partition).set(len(store.buckets))


class _Every:
    """True at most once in so many milliseconds of the monotonic clock."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_s = interval_ms / 1000
        self._next = time.monotonic() + self._interval_s

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True


def ledger_role(
    settings: LedgerSettings,
    engine: EngineSettings,
    codec: Codec,
    privacy: PrivacySettings,
    access: Access | None = None,
    pages: MakePages | None = None,
    bulk: Collection[str] = (),
) -> RoleSpec:
    """The ledger as the engine runs it. ``pages``: further ones on the same web server."""
    cache = Cache(settings.block_cache_bytes)
    looks, hours = Looks(engine, privacy, codec), KafkaHours(engine)
    web = LedgerWeb(settings, engine, looks, access)
    more = () if pages is None else (pages(web, looks),)

    def on_app(faust_app: Any) -> None:
        web.mount(faust_app)
        for each in more:
            each.mount(faust_app)

    def runner(partition: int, context: PartitionContext) -> LedgerRunner:
        return LedgerRunner(partition, context, settings, codec, web, cache, privacy, bulk, hours)

    return RoleSpec(
        name="ledger",
        lanes=(Lane("history", TOPICS, settings.records_max),),
        runner_factory=runner,
        services=(web, looks, hours, *more),
        on_app=on_app,
    )
