"""Forgetting a recipient in one partition's ledger.

Their rows, and the index rows that lead to them, are deleted in the same write as the offset of the
erasure's record; a mark stays, so that what is read later (a late answer, or everything again after
the database was rebuilt) is counted and not kept. Counters hold nobody and stay.

Invariants: after that write no row of theirs can be read, whatever dies when; a mark is a keyed
hash and says nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rocksdict import Rdict, WriteBatch

from streams.codec import DecodeError
from streams.ledger import rows as ledger_rows
from streams.ledger.database import between
from streams.ledger.rows import Row, Rows
from streams.ledger.trace import Decoder
from streams.privacy import Pseudonyms

MARK = b"f"
NEVER_MS = (1 << 63) - 1
_LAST = b"\xff" * 32


class Erased(NamedTuple):
    """One record of ``erasures``, opened."""

    recipient: bytes
    at_ms: int
    lifted: bool


def read_erasure(codec: Decoder, names: Pseudonyms, value: bytes) -> Erased:
    """A record's meaning. Raises ``DecodeError``."""
    fields: dict[str, Any] = codec.decode("erasure", value)
    recipient_id = names.unseal(fields["sealed"])
    if recipient_id is None:
        raise DecodeError("malformed", "it was sealed with another privacy.hash_key than ours")
    return Erased(recipient_id.encode(), fields["forgotten_at_ms"], fields["lifted"])


class Mark(NamedTuple):
    """Somebody was forgotten: what was decided about them before ``until_ms`` is not kept."""

    at_ms: int
    until_ms: int = NEVER_MS
    """When they came back. The mark stays, because all may be read again from the topics."""

    def pack(self) -> bytes:
        """Its bytes in the database."""
        return self.at_ms.to_bytes(8) + self.until_ms.to_bytes(8)


class Marks:
    """Who was forgotten, by keyed hash; kept in the ledger's database."""

    def __init__(self, database: Rdict) -> None:
        self._database = database
        self.known = {
            key[1:]: Mark(int.from_bytes(value[:8]), int.from_bytes(value[8:]))
            for key, value in between(database, MARK, b"g")
        }

    def put(self, out: WriteBatch, marks: Mapping[bytes, Mark]) -> None:
        """Adds marks to a batch that is about to be written."""
        for name, mark in marks.items():
            out.put(MARK + name, mark.pack())

    def drop_before(self, before_ms: int) -> int:
        """Forgets that somebody was forgotten; returns how many marks that were."""
        old = [name for name, mark in self.known.items() if mark.at_ms < before_ms]
        for name in old:
            self._database.delete(MARK + name)
            del self.known[name]
        return len(old)


class Erasing:
    """The erasures of one batch: whose rows go, and the marks that they leave."""

    def __init__(self, codec: Decoder, names: Pseudonyms, erased: Iterable[Erased]) -> None:
        self.codec = codec
        self.marks: dict[bytes, Mark] = {}
        self.recipients: dict[bytes, None] = {}
        self.touched: dict[int, int] = {}
        """Bucket -> keys deleted, once it is written."""
        for one in erased:
            name = names.of(one.recipient.decode())
            if one.lifted:
                self.marks[name] = Mark(one.at_ms, one.at_ms)
            else:
                self.marks[name] = Mark(one.at_ms)
                self.recipients[one.recipient] = None


def keys_of(bucket: Rdict, recipient: bytes, partition: int, codec: Decoder) -> Iterator[bytes]:
    """Keys of a bucket's rows about a recipient, and of the index rows that lead to them."""
    prefix = ledger_rows.recipient_prefix(recipient)
    for key, value in between(bucket, prefix, prefix + _LAST):
        yield key
        yield from _index_keys(ledger_rows.row_of(key, value, len(prefix)), partition, codec)


def row_count(buckets: Iterable[Rdict], recipient: bytes, limit: int) -> int:
    """Rows about a recipient, counted up to ``limit``."""
    prefix = ledger_rows.recipient_prefix(recipient)
    count = 0
    for bucket in buckets:
        for _ in between(bucket, prefix, prefix + _LAST):
            count += 1
            if count >= limit:
                return count
    return count


def without_person(rows: Rows) -> Rows:
    """What is kept of a record about somebody who was forgotten: what it counts."""
    return rows._replace(key=b"", value=b"", index_keys=(), recipient=b"")


def _index_keys(row: Row, partition: int, codec: Decoder) -> Iterable[bytes]:
    if row.kind == "outcome":
        return ()
    fields = codec.decode(row.kind, row.value)
    if row.kind == "decision":
        return ledger_rows.index_keys_of_decision(fields, int.from_bytes(row.suffix[9:17]))
    ids = ledger_rows.ids_of_receipt(fields, partition)
    return [ledger_rows.index_key(name, row.time_ms) for name in ids]
