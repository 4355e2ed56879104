"""What a dead letter keeps of the record that it is about: all of it, or as much as fits.

A topic may take larger records than anybody here writes (one that was made by other hands, or by an
older release). A dead letter that is too large to be written would stop its partition for ever, so
a record beyond ``KEPT_BYTES_MAX`` is cut: the front of its key and value, and the headers for which
there is room.

Invariants: topic, partition, offset, time and reason are always there; a letter that was cut says
so in its ``detail``, and in the header ``CUT`` for those who would send the record again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.codec import VALUE_BYTES_MAX
from streams.engine.api import Record

KEPT_BYTES_MAX = VALUE_BYTES_MAX - 16_384
"""Of key, value and headers together: a letter is a value that must be read in its turn, and the
rest of it needs less than 16 KiB. The engine writes four times as much (``record_bytes_max``)."""
KEY_BYTES_KEPT_MAX = 65_536
DETAIL_CHARACTERS_MAX = 1_000
HEADER_BYTES = 8
"""What a header takes besides its name and its value: lengths, and that it has a value."""
CUT = "flowstate-cut"
"""Header in a letter whose record was cut: how many bytes the record had."""


def size_of(record: Record) -> int:
    """Bytes of key, value and headers."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(map(_size_of_header, record.headers)) if record.headers else size


def remains_of(record: Record, detail: str) -> dict[str, Any]:
    """The fields of a dead letter that are about its record, and its detail."""
    key, value, headers = record.key, record.value, record.headers
    detail = detail[:DETAIL_CHARACTERS_MAX]
    size = size_of(record)
    if size > KEPT_BYTES_MAX:
        key = None if key is None else key[:KEY_BYTES_KEPT_MAX]
        left = KEPT_BYTES_MAX - len(key or b"")
        value = None if value is None else value[:left]
        headers = _that_fit(record.headers, left - len(value or b""))
        kept = len(key or b"") + len(value or b"") + sum(map(_size_of_header, headers))
        headers = [*headers, (CUT, b"%d" % size)]
        detail = f"{detail}; cut, {kept} of its {size} bytes are kept"
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": key,
        "value": value,
        "headers": [{"name": name, "value": data} for name, data in headers],
        "detail": detail,
    }


def _size_of_header(header: tuple[str, bytes | None]) -> int:
    return HEADER_BYTES + len(header[0].encode()) + len(header[1] or b"")


def _that_fit(headers: Sequence[tuple[str, bytes]], room: int) -> list[tuple[str, bytes]]:
    fit: list[tuple[str, bytes]] = []
    for header in headers:
        room -= _size_of_header(header)
        if room < 0:
            break
        fit.append(header)
    return fit
