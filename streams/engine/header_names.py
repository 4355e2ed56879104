"""Names of headers that are not UTF-8, read as Kafka's own clients read them.

Kafka takes any bytes for the name of a header, and librdkafka sends what it is given. aiokafka
decodes names strictly, while it walks through a batch: one such record would end every worker that
gets its partition, and the next owner again. Here, and in Java's client, the wrong bytes become
U+FFFD. A batch without such a name is read as ever, by aiokafka's compiled code.

Invariants: each record is given once and in order, whatever its headers are called; keys, values
and headers' values are the bytes that were sent. The members of aiokafka that this uses beyond its
documented API are all in this file; ``tests/engine/test_header_names.py`` fails when one changes.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class KeptRecords:
    """aiokafka's batches of one fetch, which can be read again from the latest on."""

    def __init__(self, data: bytes) -> None:
        records = MemoryRecords(data)
        self.has_next = records.has_next
        self.size_in_bytes = records.size_in_bytes
        self._next_batch = records.next_batch
        self._data = data
        self._taken = 0

    def next_batch(self) -> Any:
        """The next batch; ``None`` after the last."""
        self._taken += 1
        return self._next_batch()

    def again(self) -> LenientRecords:
        """The latest batch and those after it."""
        records = LenientRecords(self._data)
        for _ in range(self._taken - 1):
            records.next_batch()
        return records


class LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # no class of aiokafka has types
    """Batches in which a header may have any name. Slow, and only read where it must be."""

    def next_batch(self) -> Any:
        """The next batch; ``None`` after the last."""
        data = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.magic < 2 else _LenientBatch(data)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def __iter__(self) -> Any:
        self._maybe_uncompress()
        self._buffer = _Lenient(self._buffer)
        return self


class _Lenient(bytearray):
    """Nothing in a batch but names of headers is decoded, so this is where they are."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if type(at) is slice else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


_next_strictly = fetcher.PartitionRecords.__next__


def _next(unpacking: Any) -> Any:
    try:
        return _next_strictly(unpacking)
    except UnicodeDecodeError:
        # What was given of this batch is before ``next_fetch_offset``, and is passed over.
        unpacking._records = unpacking._records.again()
        unpacking._records_iterator = unpacking._unpack_records()
        return _next_strictly(unpacking)


def use() -> None:
    """From now on all consumers of this process read such records."""
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords.__next__ = _next
