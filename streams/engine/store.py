"""The local copy of a partition's state: one RocksDB database per partition, always derivable.

The changelog is the truth; this is a cache of it that remembers how far it got. A batch is
written here after its transaction committed, in one ``WriteBatch`` with the changelog offset, so
that a crash leaves an older state that knows its age, never a mixed one.

Keys of the state are the logic's; the store keeps one of its own beside them, never changelogged:
``0xfe``, where the changelog was followed to. State is read and written by key, and a batch's keys
lie anywhere among a hundred thousand that were written lately: RocksDB keeps those in a hash table
instead of its usual skip list (docs/performance.md). The index of due times, ``due owner``, is read
in order, so it is a column family of its own, with a skip list.

Invariants: a database is opened by name and closed by name; ``close`` releases its lock before it
returns (no iterator outlives the method that made it, and no handle of a column family the
database: RocksDB keeps the lock for them); damage is remembered on disk, so that the next start
begins from nothing instead of trusting what is left; no entry of the due index lies before
``_due_from``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import (
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    MemtableFactory,
    Options,
    Rdict,
    ReadOptions,
    SliceTransform,
    WriteBatch,
    WriteBufferManager,
)

from streams.engine.api import Due

FOLLOWED_KEY = b"\xfefollowed"
DUE_INDEX = "due"
"""Column family of the index of due times."""
DUE_MS_BYTES = 8
DAMAGED = "DAMAGED"
HASH_BUCKETS = 1 << 15
"""Of the hash table of what was written lately: 256 KB for each database. One holds some 8 MB of
state with 16 of them in a worker, and 64 MB at most: one to five keys a bucket."""
HASHED_BYTES = 64
"""Of a key: as many as tell recipients apart."""


class StoreDamaged(Exception):  # noqa: N818 (a state, named for what happened)
    """The database cannot be read or written; it is marked and will be rebuilt at the next start.

    The process ends: what was answered from a damaged database cannot be trusted.
    """


class Followed(msgspec.Struct, frozen=True, array_like=True):
    """How far the changelog is in this database."""

    topic: str
    next_offset: int
    since: int = 0
    """Where the changelog began when this copy of it was begun: what was before is not in it."""
    at_ms: int = 0
    """When this was written, by the clock of this machine; 0 if an older release wrote it."""


_followed_encoder = msgspec.msgpack.Encoder()
_followed_decoder = msgspec.msgpack.Decoder(Followed)


def due_key(due_ms: int, owner: bytes) -> bytes:
    """Index key: sorts by due time, then owner."""
    return due_ms.to_bytes(DUE_MS_BYTES, "big") + owner


def due_of_key(key: bytes) -> tuple[int, bytes]:
    """(due_ms, owner) of an index key."""
    return int.from_bytes(key[:DUE_MS_BYTES], "big"), key[DUE_MS_BYTES:]


class SharedMemory:
    """One block cache and one write buffer budget for all databases of a worker."""

    def __init__(self, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        self.cache = Cache(block_cache_bytes)
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_bytes, allow_stall=False, cache=self.cache
        )

    def state_options(self) -> Options:
        """Options of one database, and of the state in it."""
        options = self.due_options()
        options.set_prefix_extractor(SliceTransform.create_max_len_prefix(HASHED_BYTES))
        hash_table: Any = MemtableFactory.hash_link_list  # Its type knows of no argument.
        options.set_memtable_factory(hash_table(HASH_BUCKETS))
        options.create_missing_column_families(True)
        return options

    def due_options(self) -> Options:
        """Options of the index of due times."""
        table = BlockBasedOptions()
        table.set_block_cache(self.cache)
        table.set_bloom_filter(10, block_based=False)
        table.set_cache_index_and_filter_blocks(True)
        table.set_format_version(5)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_paranoid_checks(True)
        options.set_max_open_files(128)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_max_total_wal_size(64 << 20)
        options.set_allow_concurrent_memtable_write(False)  # A hash table cannot; nobody does.
        return options


class PartitionStore:
    """State of one partition. Implements ``StateView``."""

    def __init__(self, folder: Path, memory: SharedMemory) -> None:
        self.folder = folder
        self._memory = memory
        self._db: Any = None
        self._due: Any = None
        self._due_family: Any = None
        """Names the due index in a batch of writes."""
        self._due_from = b""
        """Where looking for what is due begins. RocksDB steps over every entry that was deleted
        since its files were last rewritten, and what fired was all at the front."""

    # -- life

    def open(self) -> str | None:
        """Opens the database; one that is damaged or unreadable is wiped first.

        Returns why it was wiped, or ``None``.
        """
        wiped = None
        if (self.folder / DAMAGED).exists():
            wiped = "it was marked as damaged"
            self.wipe()
        try:
            if self._is_of_an_older_release():
                wiped = "an older release wrote it, with its due index elsewhere"
                self.wipe()
            self._open()
            self.followed()
        except Exception as error:
            # Whatever RocksDB says here, the changelog has it all.
            wiped = f"it cannot be opened ({type(error).__name__}: {error})"
            self.close()
            self.wipe()
            self._open()
        return wiped

    def _is_of_an_older_release(self) -> bool:
        exists = (self.folder / "CURRENT").exists()
        return exists and DUE_INDEX not in Rdict.list_cf(str(self.folder))

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._due_from = b""
        families = {DUE_INDEX: self._memory.due_options()}
        self._db = Rdict(str(self.folder), self._memory.state_options(), families)
        self._due = self._db.get_column_family(DUE_INDEX)
        self._due_family = self._db.get_column_family_handle(DUE_INDEX)

    @property
    def is_open(self) -> bool:
        """Whether the database is held by this process."""
        return self._db is not None

    def close(self) -> None:
        """Closes the database and gives its lock back. May be called twice."""
        db, due = self._db, self._due
        self._db = self._due = self._due_family = None
        for each in (due, db):
            if each is not None:
                each.close()

    def wipe(self) -> None:
        """Deletes the closed database."""
        assert self._db is None, "close before wiping"
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_over(self) -> None:
        """Empties the database."""
        self.close()
        self.wipe()
        self._open()

    def _damaged(self, error: Exception) -> StoreDamaged:
        (self.folder / DAMAGED).write_text(f"{type(error).__name__}: {error}\n")
        return StoreDamaged(f"the local state in {self.folder} is damaged: {error}")

    # -- reading

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``."""
        if not keys:
            return []
        try:
            values: list[bytes | None] = self._db.get(keys)
        except Exception as error:
            raise self._damaged(error) from error
        return values

    def get(self, key: bytes) -> bytes | None:
        """One value."""
        return self.get_many([key])[0]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Pairs whose key starts with ``prefix``, in order, ``after`` exclusive.

        Takes milliseconds for a page of a table: what was written lately is put in order first.
        """
        start = prefix if after is None else max(prefix, after + b"\0")
        return self._range(self._db, start, _successor(prefix), limit)

    def due_until(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """(due_ms, owner) of what is due by ``now_ms``, oldest first."""
        end = due_key(now_ms + 1, b"")
        if end <= self._due_from:
            return []
        pairs = self._range(self._due, self._due_from, end, limit)
        self._due_from = pairs[0][0] if pairs else end
        return [due_of_key(key) for key, _ in pairs]

    def first_due_ms(self) -> int | None:
        """The earliest due time, if any."""
        pairs = self._range(self._due, self._due_from, None, 1)
        return due_of_key(pairs[0][0])[0] if pairs else None

    def _range(
        self, table: Any, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        try:
            options = ReadOptions()
            options.set_total_order_seek(True)  # Else one bucket of the hash table is all.
            if end is not None:
                options.set_iterate_upper_bound(end)
            iterator = table.iter(options)
            iterator.seek(start)
            pairs: list[tuple[bytes, bytes]] = []
            while len(pairs) < limit and iterator.valid():
                pairs.append((iterator.key(), iterator.value()))
                iterator.next()
            iterator.status()
        except Exception as error:
            raise self._damaged(error) from error
        return pairs

    def followed(self) -> Followed | None:
        """Where the changelog was followed to; ``None`` in a new database."""
        value = self._db.get(FOLLOWED_KEY)
        return None if value is None else _followed_decoder.decode(value)

    # -- writing

    def write(
        self, changes: Iterable[tuple[bytes, bytes | None]], due: Iterable[Due], followed: Followed
    ) -> None:
        """State, due index and changelog offset at once: all or none survive a crash."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        for entry in due:
            if entry.old_ms is not None:
                batch.delete(due_key(entry.old_ms, entry.owner), self._due_family)
            if entry.new_ms is not None:
                key = due_key(entry.new_ms, entry.owner)
                self._due_from = min(self._due_from, key)
                batch.put(key, b"", self._due_family)
        batch.put(FOLLOWED_KEY, _followed_encoder.encode(followed))
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._damaged(error) from error

    def purge(self, keys: Iterable[bytes]) -> None:
        """Takes what was deleted under these keys, and of the due index, off the disk as well.

        RocksDB keeps what was deleted until it has a reason to rewrite a file; this takes a while.
        Its MANIFEST names the first and last key of every file that there was, until the next open.
        """
        options = CompactOptions()
        # Else a file with nothing below it is moved as it is, with deletions and their keys.
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        for key in keys:
            self._db.compact_range(key, key + b"\0", options)
        self._due.compact_range(None, None, options)

    def size_bytes(self) -> int:
        """Rough size on disk, for the metrics."""
        tables = (self._db, self._due)
        return sum(int(t.property_int_value("rocksdb.total-sst-files-size") or 0) for t in tables)


def _successor(prefix: bytes) -> bytes | None:
    """Smallest key that is greater than every key with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
