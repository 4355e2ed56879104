"""Opening a ledger's RocksDB: its options, and what happens when it cannot be read.

A ledger can be read again from its topics as far back as they go, so a damaged database is set
aside (one copy, for whoever wants to repair it) and an empty one takes its place; so is one whose
keys have another form than ours. What is only *busy* or *full* is not damaged: that error is
raised as it is.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
)

from streams.ledger.settings import LedgerSettings

log = logging.getLogger(__name__)
MARKER = "DAMAGED"
POSITIONS = "POSITIONS"
FORMAT = 2
"""Raised when keys or values change their form. 2: index rows of event ids end with an offset."""
FORMAT_KEY = b"mformat"
ARENA_BLOCK_BYTES = 64 << 10
OPEN_FILES_MAX = 512


def database_options(settings: LedgerSettings, cache: Cache) -> Options:
    """Options of the database and of each bucket in it."""
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_block_based_table_factory(table)
    # Rows are only ever added: universal compaction rewrites them less often than levels do.
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    options.set_db_write_buffer_size(settings.write_buffer_bytes)
    options.set_write_buffer_size(max(settings.write_buffer_bytes // 2, 1 << 20))
    options.set_arena_block_size(ARENA_BLOCK_BYTES)
    # A bucket that is hardly written to would otherwise keep every write-ahead log since.
    options.set_max_total_wal_size(4 * settings.write_buffer_bytes)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    return options


def open_database(folder: Path, settings: LedgerSettings, cache: Cache) -> tuple[Rdict, bool]:
    """(database, whether a damaged one was set aside for it)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        try:
            database = _open(folder, settings, cache)
        except Exception as error:
            # rocksdict raises bare exceptions; RocksDB's text is all there is to tell them apart.
            if not is_damage(error):
                raise
            log.error("the ledger in %s cannot be read: %s", folder.name, error)
        else:
            if (why := _unusable(database, folder)) is None:
                return database, False
            database.close()
            log.error("the ledger in %s %s", folder.name, why)
    aside = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    (aside / MARKER).unlink(missing_ok=True)
    log.error(
        "partition %s of the ledger was set aside as %s; it is read again from its topics, as"
        " far back as they go",
        folder.name,
        aside.name,
    )
    return _open(folder, settings, cache), True


def positions(database: Rdict) -> dict[str, int]:
    """Next offset to read of each input topic that was ever read."""
    return {key[1:].decode(): int.from_bytes(value) for key, value in between(database, b"o", b"p")}


def sync(database: Rdict, folder: Path) -> None:
    """Makes what was written survive a power cut, and writes beside it how far it goes.

    RocksDB takes a MANIFEST that was cut short for an older one and opens as it was then, with
    files of later days gone: nothing in the database itself would show it.
    """
    known = msgspec.json.encode(positions(database))
    database.flush_wal(sync=True)
    new = folder / f"{POSITIONS}.new"
    new.write_bytes(known)
    new.replace(folder / POSITIONS)


def _unusable(database: Rdict, folder: Path) -> str | None:
    """Why a database that opens is not to be used."""
    if _went_back(database, folder):
        return "has forgotten what it had on disk before"
    found = int.from_bytes(database.get(FORMAT_KEY) or b"")
    if found != FORMAT and positions(database):
        return f"is of format {found}, and this version reads {FORMAT}"
    return None


def _went_back(database: Rdict, folder: Path) -> bool:
    try:
        known = msgspec.json.decode((folder / POSITIONS).read_bytes(), type=dict[str, int])
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    found = positions(database)
    return any(found.get(topic, 0) < position for topic, position in known.items())


def mark_damaged(folder: Path) -> None:
    """Leaves word that the database must be rebuilt at the next start."""
    (folder / MARKER).touch()


def is_damage(error: BaseException) -> bool:
    """Whether RocksDB says that what it read is not what it wrote."""
    text = str(error)
    return text.startswith("Corruption") or "No such file or directory" in text


def between(database: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs with start <= key < end, in order. Raises where the database cannot be read."""
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    cursor = database.iter(options)
    cursor.seek(start)
    while cursor.valid():
        yield cursor.key(), cursor.value()
        cursor.next()
    cursor.status()


def backwards(database: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs with start <= key < end, in reverse order. Raises where it cannot be read."""
    # No lower bound: rocksdict 0.3.29 takes it for an upper one (see test_store.py).
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    cursor = database.iter(options)
    cursor.seek_to_last()
    while cursor.valid() and (key := cursor.key()) >= start:
        yield key, cursor.value()
        cursor.prev()
    cursor.status()


def _open(folder: Path, settings: LedgerSettings, cache: Cache) -> Rdict:
    options = database_options(settings, cache)
    if not (folder / "CURRENT").exists():
        return Rdict(str(folder), options)
    names = Rdict.list_cf(str(folder), options)
    families = {name: database_options(settings, cache) for name in names}
    return Rdict(str(folder), options, families)
