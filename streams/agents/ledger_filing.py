"""From records to what the ledger files: rows, erasures, and what is left out.

Pure but for decoding. A record that cannot be read is counted; of whoever was forgotten, and of
bulk notifications that were not drawn, only what they count is left.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams import topics
from streams.codec import Codec, DecodeError
from streams.engine.api import Record
from streams.ledger.erasure import Erased, Erasing, Marks, read_erasure, without_person
from streams.ledger.rows import Rows, of_decision, of_outcome, of_receipt
from streams.ledger.sampling import Sampling
from streams.privacy import Pseudonyms

_RECORD = {topics.DECISIONS: "decision", topics.OUTCOMES: "outcome", topics.RECEIPTS: "receipt"}
_ROWS = {"decision": of_decision, "outcome": of_outcome, "receipt": of_receipt}


def rows_of(codec: Codec, records: Sequence[Record], sampling: Sampling) -> tuple[list[Rows], int]:
    """(rows of the records in order, how many records could not be read)."""
    found: list[Rows] = []
    unreadable = 0
    for record in records:
        name = _RECORD.get(record.topic)
        if name is None:
            continue
        try:
            fields = codec.decode(name, record.value)
            rows = _ROWS[name](fields, record)
            found.append(rows if sampling.keeps(name, fields) else without_person(rows))
        except DecodeError:
            unreadable += 1
    return found, unreadable


class Filing:
    """Reads batches of one partition."""

    def __init__(self, codec: Codec, names: Pseudonyms, sampling: Sampling) -> None:
        self._codec = codec
        self._names = names
        self._sampling = sampling

    def read(
        self, records: Sequence[Record], marks: Marks
    ) -> tuple[list[Rows], Erasing | None, int]:
        """(rows to file, erasures to carry out, how many records could not be read)."""
        found, unreadable = rows_of(self._codec, records, self._sampling)
        erasing, sealed = self._erasing_of(records)
        return self._without_forgotten(marks, found, erasing), erasing, unreadable + sealed

    def _erasing_of(self, records: Sequence[Record]) -> tuple[Erasing | None, int]:
        """(the batch's erasures, how many of them could not be read)."""
        erased: list[Erased] = []
        unreadable = 0
        for record in records:
            if record.topic == topics.ERASURES:
                try:
                    erased.append(read_erasure(self._codec, self._names, record.value or b""))
                except DecodeError:
                    unreadable += 1
        return (Erasing(self._codec, self._names, erased) if erased else None), unreadable

    def _without_forgotten(
        self, known: Marks, found: list[Rows], erasing: Erasing | None
    ) -> list[Rows]:
        """The rows, but of whoever was forgotten only what they count."""
        marks = known.known | (erasing.marks if erasing is not None else {})
        if not marks:
            return found
        until_ms: dict[bytes, int] = {}
        for rows in found:
            if rows.recipient not in until_ms:
                mark = marks.get(self._names.of(rows.recipient.decode()))
                until_ms[rows.recipient] = mark.until_ms if mark is not None else -1
        return [
            without_person(rows) if rows.time_ms < until_ms[rows.recipient] else rows
            for rows in found
        ]
