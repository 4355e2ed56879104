"""The local copy of a partition's state: one RocksDB database per partition, always derivable.

The changelog is the truth; this is a cache of it that remembers how far it got. A batch is
written here after its transaction committed, in one ``WriteBatch`` with the changelog offset, so
that a crash leaves an older state that knows its age, never a mixed one.

Keys of the state are the logic's. The store keeps two kinds of its own, never changelogged:
``0xfe`` where the changelog was followed to, and ``0xff due owner`` the index of due times.

Invariants: a database is opened by name and closed by name; ``close`` releases its lock before it
returns (no iterator outlives the method that made it: RocksDB keeps the lock for it); damage is
remembered on disk, so that the next start begins from nothing instead of trusting what is left;
no entry of the due index lies before ``_due_from``.
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
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from streams.engine.api import Due

FOLLOWED_KEY = b"\xfefollowed"
DUE_PREFIX = b"\xff"
DUE_KEY_BYTES = 9
DAMAGED = "DAMAGED"


class StoreDamaged(Exception):  # noqa: N818 (a state, named for what happened)
    """The database cannot be read or written; it is marked and will be rebuilt at the next start.

    The process ends: what was answered from a damaged database cannot be trusted.
    """


class Followed(msgspec.Struct, frozen=True, array_like=True):
    """How far the changelog is in this database."""

    topic: str
    next_offset: int


_followed_encoder = msgspec.msgpack.Encoder()
_followed_decoder = msgspec.msgpack.Decoder(Followed)


def due_key(due_ms: int, owner: bytes) -> bytes:
    """Index key: sorts by due time, then owner."""
    return DUE_PREFIX + due_ms.to_bytes(8, "big") + owner


class SharedMemory:
    """One block cache and one write buffer budget for all databases of a worker."""

    def __init__(self, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        self.cache = Cache(block_cache_bytes)
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_bytes, allow_stall=False, cache=self.cache
        )

    def options(self) -> Options:
        """Options of one database."""
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
        return options


class PartitionStore:
    """State of one partition. Implements ``StateView``."""

    def __init__(self, folder: Path, memory: SharedMemory) -> None:
        self.folder = folder
        self._memory = memory
        self._db: Any = None
        self._due_from = DUE_PREFIX
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
            self._open()
            self.followed()
        except Exception as error:
            # Whatever RocksDB says here, the changelog has it all.
            wiped = f"it cannot be opened ({type(error).__name__}: {error})"
            self.close()
            self.wipe()
            self._open()
        return wiped

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._due_from = DUE_PREFIX
        self._db = Rdict(str(self.folder), self._memory.options())

    @property
    def is_open(self) -> bool:
        """Whether the database is held by this process."""
        return self._db is not None

    def close(self) -> None:
        """Closes the database and gives its lock back. May be called twice."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

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
        """Pairs whose key starts with ``prefix``, in order, ``after`` exclusive."""
        start = prefix if after is None else max(prefix, after + b"\0")
        return self._range(start, _successor(prefix), limit)

    def due_until(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """(due_ms, owner) of what is due by ``now_ms``, oldest first."""
        end = due_key(now_ms + 1, b"")
        if end <= self._due_from:
            return []
        pairs = self._range(self._due_from, end, limit)
        self._due_from = pairs[0][0] if pairs else end
        return [(int.from_bytes(key[1:9], "big"), key[DUE_KEY_BYTES:]) for key, _ in pairs]

    def first_due_ms(self) -> int | None:
        """The earliest due time, if any."""
        pairs = self._range(self._due_from, None, 1)
        return int.from_bytes(pairs[0][0][1:9], "big") if pairs else None

    def _range(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        try:
            options = ReadOptions()
            if end is not None:
                options.set_iterate_upper_bound(end)
            iterator = self._db.iter(options)
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
                batch.delete(due_key(entry.old_ms, entry.owner))
            if entry.new_ms is not None:
                key = due_key(entry.new_ms, entry.owner)
                self._due_from = min(self._due_from, key)
                batch.put(key, b"")
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
        self._db.compact_range(DUE_PREFIX, None, options)

    def size_bytes(self) -> int:
        """Rough size on disk, for the metrics."""
        value = self._db.property_int_value("rocksdb.total-sst-files-size")
        return int(value or 0)


def _successor(prefix: bytes) -> bytes | None:
    """Smallest key that is greater than every key with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
