"""One partition's ledger on disk: a RocksDB with one column family per bucket of days.

Why column families and not a database per day: they share one write-ahead log, so a single
``WriteBatch`` holds rows of any number of days, the counters *and* the input offsets. A crash at
any point therefore repeats nothing and loses nothing; counters are exact without knowing what was
written before. A day is still dropped whole, and still no row is ever rewritten.

Default column family::

    o <topic>            next offset to read            m <name>     meta (format, bucket_days)
    t, h                 counters (counters.py)

Invariants: rows, counters and offsets of a batch are visible together or not at all; a database
that cannot be read is set aside once and rebuilt from the topics, never half used; ``close``
releases the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from rocksdict import (
    BottommostLevelCompaction,
    Cache,
    ColumnFamily,
    CompactOptions,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from streams.ledger import rows as ledger_rows
from streams.ledger.counters import Counters, Counts
from streams.ledger.database import (
    FORMAT,
    backwards,
    between,
    database_options,
    mark_damaged,
    open_database,
    positions,
    sync,
)
from streams.ledger.erasure import Erasing, Marks, keys_of, row_count
from streams.ledger.rows import DAY_MS, HOUR_MS, CountKey, Row, Rows
from streams.ledger.settings import LedgerSettings

_LAST = b"\xff" * 32
"""Sorts after everything that can follow the prefix of a row."""
_META = ("format", "bucket_days", "newest_ms", "first_day", "repeats", "too_old", "lost_records")


class LedgerStore:
    """Everything the ledger knows about one partition. One task writes; any may read."""

    def __init__(
        self, folder: Path, partition: int, settings: LedgerSettings, cache: Cache | None = None
    ) -> None:
        self.partition = partition
        self.settings = settings
        self._folder = folder / str(partition)
        self._cache = cache or Cache(settings.block_cache_bytes)
        self._database, self.was_damaged = open_database(self._folder, settings, self._cache)
        self._buckets: dict[int, Rdict] = {}
        self._handles: dict[int, ColumnFamily] = {}
        for name in Rdict.list_cf(str(self._folder)):
            if name.startswith("b"):
                self._adopt(int(name[1:]))
        self._meta = dict.fromkeys(_META, 0) | {
            key[1:].decode(): int.from_bytes(value) for key, value in self._scan(b"m")
        }
        self._meta["bucket_days"] = self._meta["bucket_days"] or settings.bucket_days
        self._meta["format"] = FORMAT
        self.counters = Counters(self._database, settings)
        self.marks = Marks(self._database)

    # ------------------------------------------------------------------------------- writing

    def write(
        self, batch: Sequence[Rows], offsets: Mapping[str, int], erasing: Erasing | None = None
    ) -> None:
        """Adds the rows, counts them, forgets whom it is told to, moves the offsets: all of it or
        nothing. ``batch`` holds no rows of whom it forgets; see ``erasure.without_person``."""
        out = WriteBatch(raw_mode=True)
        counts: Counts = Counter()
        new_keys: set[bytes] = set()
        meta = dict(self._meta)
        for rows in batch:
            bucket = self._bucket_for(rows.time_ms)
            if rows.kind == "outcome" and rows.key:
                if rows.key in new_keys or self._known(bucket, rows.key):
                    meta["repeats"] += 1
                    continue
                new_keys.add(rows.key)
            elif rows.kind == "decision":
                meta["newest_ms"] = max(meta["newest_ms"], rows.time_ms)
            if bucket is None:
                meta["too_old"] += 1
            elif rows.key:
                handle = self._handles[bucket]
                out.put(rows.key, rows.value, handle)
                for key in rows.index_keys:
                    out.put(key, rows.recipient, handle)
            hour = rows.time_ms // HOUR_MS
            for count_key, count in rows.counts.items():
                counts[hour, count_key] += count
        totals = self.counters.add(out, counts)
        for topic, offset in offsets.items():
            out.put(b"o" + topic.encode(), offset.to_bytes(8))
        for name, value in meta.items():
            out.put(b"m" + name.encode(), value.to_bytes(8))
        touched = self._erase(out, erasing) if erasing is not None else {}
        self._database.write(out)
        if erasing is not None:
            erasing.touched = touched
            self.marks.known.update(erasing.marks)
        self._meta = meta
        self.counters.written(totals)

    def _erase(self, out: WriteBatch, erasing: Erasing) -> dict[int, int]:
        """Puts deletions and marks into a batch; returns rows deleted by bucket."""
        touched: dict[int, int] = {}
        for recipient in erasing.recipients:
            for number, bucket in self._buckets.items():
                for key in keys_of(bucket, recipient, self.partition, erasing.codec):
                    out.delete(key, self._handles[number])
                    touched[number] = touched.get(number, 0) + 1
        self.marks.put(out, erasing.marks)
        return touched

    def compact(self, number: int) -> None:
        """Rewrites a bucket, so that what was deleted is no longer on the disk. Takes long."""
        bucket = self._buckets.get(number)
        if bucket is not None:
            options = CompactOptions()
            # Else a file with nothing below it may stay as it is, with deletions and their keys.
            options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
            bucket.compact_range(None, None, options)
            # The write-ahead log goes when nothing in it is still in memory alone.
            for each in (*self._buckets.values(), self._database):
                each.flush()

    def rows_about(self, recipient: bytes, limit: int) -> int:
        """How many rows there are about a recipient, counted up to ``limit``."""
        return row_count(self._buckets.values(), recipient, limit)

    def _known(self, bucket: int | None, key: bytes) -> bool:
        return bucket is not None and self._buckets[bucket].get(key) is not None

    def _bucket_for(self, time_ms: int) -> int | None:
        """The bucket of a time, made when new; ``None`` for a time whose bucket was dropped."""
        bucket = self._bucket_of(time_ms)
        if bucket < self._meta["first_day"]:
            return None
        if bucket not in self._buckets:
            options = database_options(self.settings, self._cache)
            self._database.create_column_family(_name(bucket), options)
            self._adopt(bucket)
        return bucket

    def _adopt(self, bucket: int) -> None:
        self._buckets[bucket] = self._database.get_column_family(_name(bucket))
        self._handles[bucket] = self._database.get_column_family_handle(_name(bucket))

    def _bucket_of(self, time_ms: int) -> int:
        day = time_ms // DAY_MS
        return day - day % self._meta["bucket_days"]

    # ----------------------------------------------------------------------------- retention

    def drop_old(self) -> dict[str, int]:
        """Drops whole buckets by age, by number and by size; returns how many by each reason."""
        dropped: Counter[str] = Counter()
        while len(self._buckets) > 1 and (reason := self._too_much()):
            first = min(self._buckets)
            # The mark comes first: a crash between the two drops the bucket a moment later.
            self._put_meta("first_day", first + self._meta["bucket_days"])
            del self._handles[first]
            self._buckets.pop(first).close()
            self._database.drop_column_family(_name(first))
            dropped[reason] += 1
        self.counters.drop_before(max(0, self.newest_ms // HOUR_MS - self.settings.hours_kept_max))
        return dict(dropped)

    def _too_much(self) -> str | None:
        """Why the oldest bucket has to go, if it has to."""
        settings = self.settings
        first, days = min(self._buckets), self._meta["bucket_days"]
        if first < self._meta["first_day"]:
            return "interrupted"
        if first + days - 1 < self.newest_ms // DAY_MS - settings.retention_days:
            return "age"
        if len(self._buckets) > settings.buckets_max:
            return "number"
        if self.size_bytes() > settings.partition_bytes_max:
            return "size"
        return None

    def note_lost(self, records: int) -> None:
        """Remembers that its topics no longer had some records when they were to be read."""
        self._put_meta("lost_records", self._meta["lost_records"] + records)

    def _put_meta(self, name: str, value: int) -> None:
        self._database.put(b"m" + name.encode(), value.to_bytes(8))
        self._meta[name] = value

    def size_bytes(self) -> int:
        """Bytes on disk and in memory, without the write-ahead log."""
        return sum(
            (bucket.property_int_value("rocksdb.total-sst-files-size") or 0)
            + (bucket.property_int_value("rocksdb.cur-size-all-mem-tables") or 0)
            for bucket in self._buckets.values()
        )

    @property
    def newest_ms(self) -> int:
        """Time of the newest decision: the clock that retention goes by."""
        return self._meta["newest_ms"]

    def meta(self) -> dict[str, int]:
        """``repeats`` (answers that were here already), ``too_old`` (rows for dropped days),
        ``lost_records`` (gone from the topics before they were read), and the like."""
        return dict(self._meta)

    @property
    def buckets(self) -> list[int]:
        """First day (since 1970) of each bucket, oldest first."""
        return sorted(self._buckets)

    # ------------------------------------------------------------------------------- reading

    def offsets(self) -> dict[str, int]:
        """Next offset to read of each input topic that was ever read."""
        return positions(self._database)

    def history(self, recipient: bytes, before: bytes | None, limit: int) -> list[Row]:
        """A recipient's rows, newest first, at most ``limit``; ``before`` is a row's suffix."""
        prefix = ledger_rows.recipient_prefix(recipient)
        end = prefix + (before if before is not None else _LAST)
        found: list[Row] = []
        for bucket in sorted(self._buckets, reverse=True):
            # No lower bound: rocksdict 0.3.29 takes it for an upper one (see test_store.py).
            options = ReadOptions()
            options.set_iterate_upper_bound(end)
            cursor = self._buckets[bucket].iter(options)
            cursor.seek_to_last()
            while cursor.valid() and len(found) < limit:
                key = cursor.key()
                if not key.startswith(prefix):
                    break
                found.append(ledger_rows.row_of(key, cursor.value(), len(prefix)))
                cursor.prev()
            cursor.status()
            if len(found) >= limit:
                break
        return found

    def rows_at(self, recipient: bytes, time_ms: int, limit: int) -> list[Row]:
        """A recipient's rows of one millisecond: a decision and the answers to it."""
        prefix = ledger_rows.recipient_prefix(recipient)
        start = prefix + time_ms.to_bytes(8)
        bucket = self._buckets.get(self._bucket_of(time_ms))
        if bucket is None:
            return []
        pairs = _first(bucket, start, limit)
        return [ledger_rows.row_of(key, value, len(prefix)) for key, value in pairs]

    def decisions_of(self, recipient: bytes, from_ms: int, before_ms: int) -> Iterator[Row]:
        """A recipient's decisions in a range of time, newest first."""
        prefix = ledger_rows.recipient_prefix(recipient)
        start, end = prefix + from_ms.to_bytes(8), prefix + before_ms.to_bytes(8)
        for number in self._in_range(from_ms, before_ms):
            for key, value in backwards(self._buckets[number], start, end):
                row = ledger_rows.row_of(key, value, len(prefix))
                if row.kind == "decision":
                    yield row

    def decisions_about(
        self, event_id: str, from_ms: int, before_ms: int
    ) -> Iterator[tuple[int, bytes, Row]]:
        """(time, recipient, row) of decisions about a producer's event id, newest first."""
        start = ledger_rows.event_key(event_id, from_ms, 0)
        end = ledger_rows.event_key(event_id, before_ms, 0)
        for number in self._in_range(from_ms, before_ms):
            bucket = self._buckets[number]
            for key, recipient in backwards(bucket, start, end):
                yield from _decision_at(bucket, recipient, key[9:])

    def decisions_between(self, from_ms: int, before_ms: int) -> Iterator[tuple[int, bytes, Row]]:
        """(time, recipient, row) of every decision in a range of time, newest first."""
        start, end = ledger_rows.time_key(from_ms, 0), ledger_rows.time_key(before_ms, 0)
        for number in self._in_range(from_ms, before_ms):
            bucket = self._buckets[number]
            for key, recipient in backwards(bucket, start, end):
                yield from _decision_at(bucket, recipient, key[1:])

    def _in_range(self, from_ms: int, before_ms: int) -> list[int]:
        """Buckets with days of a range of time, newest first."""
        days = self._meta["bucket_days"]
        return [
            number
            for number in sorted(self._buckets, reverse=True)
            if number * DAY_MS < before_ms and (number + days) * DAY_MS > from_ms
        ]

    @property
    def first_ms(self) -> int:
        """Start of the oldest day that is kept."""
        return min(self._buckets, default=0) * DAY_MS

    @property
    def first_hour_counted(self) -> int:
        """The first hour (since 1970) whose counters are kept."""
        return max(0, self.newest_ms // HOUR_MS - self.settings.hours_kept_max)

    def moments(self, public_id: str, limit: int) -> tuple[bytes | None, list[int]]:
        """(recipient, times oldest first) at which something is recorded about an id."""
        start = b"i" + ledger_rows.id_bytes(public_id)
        recipient: bytes | None = None
        times: list[int] = []
        for bucket in sorted(self._buckets):
            for key, value in _first(self._buckets[bucket], start, limit - len(times)):
                recipient = value
                times.append(ledger_rows.time_of_index(key))
        return recipient, times

    def totals(self) -> dict[CountKey, int]:
        """Counts since the beginning of this ledger."""
        return self.counters.totals()

    def hours(self, first_hour: int, end_hour: int) -> Iterator[tuple[int, CountKey, int]]:
        """(hour since 1970, what, count) for hours in [first_hour, end_hour)."""
        return self.counters.hours(first_hour, end_hour)

    def hours_backwards(
        self, first_hour: int, end_hour: int
    ) -> Iterator[tuple[int, CountKey, int]]:
        """As ``hours``, newest first."""
        return self.counters.hours_backwards(first_hour, end_hour)

    # --------------------------------------------------------------------------------- life

    def sync(self) -> None:
        """Makes what was written survive a power cut."""
        sync(self._database, self._folder)

    def close(self) -> None:
        """Releases the files and the lock. Nothing may be called afterwards."""
        self._handles.clear()
        for bucket in self._buckets.values():
            bucket.close()
        self._buckets.clear()
        self._database.close()

    def mark_damaged(self) -> None:
        """Has the database rebuilt at the next start; the process must end now."""
        mark_damaged(self._folder)

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return between(self._database, prefix, prefix[:-1] + bytes((prefix[-1] + 1,)))


def _name(bucket: int) -> str:
    return f"b{bucket}"


def _first(bucket: Rdict, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """The first pairs of a bucket whose key starts with ``prefix``."""
    return list(islice(between(bucket, prefix, prefix + _LAST), max(0, limit)))


def _decision_at(bucket: Rdict, recipient: bytes, place: bytes) -> Iterator[tuple[int, bytes, Row]]:
    """(time, recipient, row) of the decision that an index row leads to: its time, its offset."""
    time_ms, offset = int.from_bytes(place[:8]), int.from_bytes(place[8:16])
    key = ledger_rows.decision_key(recipient, time_ms, offset)
    value = bucket.get(key)
    if value is not None:
        prefix = len(ledger_rows.recipient_prefix(recipient))
        yield time_ms, recipient, ledger_rows.row_of(key, value, prefix)
