"""Records in record batches, as aiokafka makes and reads them."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.engine.packing import NO_HEADERS, OversizeRecord, Row, packed

LZ4 = 3
BATCH_BYTES = 1_000
ROWS: list[Row] = [
    (b"key-%d" % number, None if number % 7 == 0 else bytes(number), 1_700 + number, NO_HEADERS)
    for number in range(90)
]


def new_batch() -> BatchBuilder:
    return BatchBuilder(BATCH_BYTES, LZ4, is_transactional=1)


def bytes_of(batch: Any) -> bytes:
    return bytes(batch._build())


def rows_of(batch: Any) -> list[Row]:
    """What a consumer would find in it."""
    records = MemoryRecords(bytes_of(batch))
    found: list[Row] = []
    while (one := records.next_batch()) is not None:
        found += [(r.key, r.value, r.timestamp, r.headers) for r in one]
    return found


def test_batches_hold_all_rows_in_their_order() -> None:
    batches = packed(new_batch, ROWS, 10_000, "a topic")
    assert len(batches) > 3
    assert all(batch.closed() for batch in batches)
    assert [row for batch in batches for row in rows_of(batch)] == ROWS


def test_they_are_what_aiokafka_itself_makes_of_them() -> None:
    ours = packed(new_batch, ROWS, 10_000, "a topic")
    theirs = [new_batch()]
    for key, value, time_ms, headers in ROWS:
        row: dict[str, Any] = {
            "timestamp": time_ms, "key": key, "value": value, "headers": headers,
        }  # fmt: skip
        if theirs[-1].append(**row) is None:
            theirs.append(new_batch())
            theirs[-1].append(**row)
    assert [b.record_count() for b in ours] == [b.record_count() for b in theirs]
    assert [bytes_of(b) for b in ours] == [bytes_of(b) for b in theirs]


def test_headers_and_a_time_of_now() -> None:
    (batch,) = packed(new_batch, [(b"k", b"v", None, [("a", b"1")])], 100, "a topic")
    ((key, value, time_ms, headers),) = rows_of(batch)
    assert (key, value, headers) == (b"k", b"v", [("a", b"1")])
    assert time_ms is not None
    assert time_ms > 1_700_000_000_000


def test_no_rows_are_one_empty_batch() -> None:
    (batch,) = packed(new_batch, [], 100, "a topic")
    assert (batch.record_count(), batch.closed()) == (0, True)


def test_a_record_larger_than_a_batch_has_one_of_its_own() -> None:
    large: Row = (b"large", bytes(3 * BATCH_BYTES), 1, NO_HEADERS)
    batches = packed(new_batch, [ROWS[1], large, ROWS[2]], 10_000, "a topic")
    assert [batch.record_count() for batch in batches] == [1, 1, 1]
    assert [row for batch in batches for row in rows_of(batch)] == [ROWS[1], large, ROWS[2]]


def test_a_record_larger_than_the_log_takes_is_refused_wherever_it_comes() -> None:
    large: Row = (b"key", bytes(98), 1, NO_HEADERS)
    for rows in ([large], [*ROWS, large]):
        with pytest.raises(OversizeRecord, match="a record for the changelog has 101 bytes"):
            packed(new_batch, rows, 100, "the changelog")
    packed(new_batch, [large], 101, "the changelog")
