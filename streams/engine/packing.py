"""Packs records into Kafka's record batches, each as full as it may be.

Hashing, futures and accounting per record are most of what a producer costs, and of the rest two
thirds is what aiokafka's ``BatchBuilder`` does around the builder that it wraps. So records go to
that one directly. The members of aiokafka that are used beyond its documented API are all in
``RecordBatch``; ``tests/engine/test_packing.py`` fails when one of them changes.

Invariant: records of one partition stay in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Headers = list[tuple[str, bytes]]
Row = tuple[bytes | None, bytes | None, int | None, Headers]
"""Key, value, time (``None``: now) and headers of one record."""

NO_HEADERS: Headers = []


class OversizeRecord(Exception):  # noqa: N818 (a state, named for what happened)
    """A record is larger than the log takes. A bound of the logic is wrong: nothing was sent."""


class RecordBatch:
    """A batch of aiokafka's, while it is filled."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.append: Callable[..., Any] = batch._builder.append
        """(offset in the batch, time, key, value, headers) -> ``None`` when it is full."""

    def closed(self, records: int) -> Any:
        """The batch, ready to be sent."""
        self._batch._relative_offset = records
        self._batch.close()
        return self._batch


def packed(
    new_batch: Callable[[], Any], rows: Iterable[Row], record_bytes_max: int, where: str
) -> list[Any]:
    """Batches of ``new_batch`` with the rows in them; one without rows if there are none.

    ``where``: for the text of ``OversizeRecord``, which is raised when a key and its value have
    more than ``record_bytes_max``.
    """
    batches: list[Any] = []
    batch, count = RecordBatch(new_batch()), 0
    append = batch.append
    for key, value, time_ms, headers in rows:
        size = len(key or b"") + len(value or b"")
        if size > record_bytes_max:
            raise OversizeRecord(
                f"a record for {where} has {size} bytes, more than record_bytes_max"
                f" ({record_bytes_max})"
            )
        if append(count, time_ms, key, value, headers) is None:
            batches.append(batch.closed(count))
            batch, count = RecordBatch(new_batch()), 0
            append = batch.append
            append(0, time_ms, key, value, headers)  # The first of a batch always fits.
        count += 1
    batches.append(batch.closed(count))
    return batches
