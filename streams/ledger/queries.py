"""Questions to one partition's ledger: a timeline, a trace, totals, reasons by hour.

Reads only. Each question looks at a bounded number of rows and says when that cut its answer.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core.ids import event_digest, to_id
from streams.ledger.documents import (
    Count,
    PartitionTotals,
    SearchPage,
    Timeline,
    TimelineItem,
    Trace,
)
from streams.ledger.erasure import NEVER_MS
from streams.ledger.reasons import ReasonsQuestion, reasons
from streams.ledger.rows import HOUR_MS, CountKey, Row
from streams.ledger.search import SearchQuestion, search
from streams.ledger.store import LedgerStore
from streams.ledger.trace import (
    Decoder,
    Gathered,
    decision_offset,
    entries_of,
    outcome_of,
    receipt_of,
)


class LedgerQueries:
    """Questions to one store."""

    def __init__(self, store: LedgerStore, codec: Decoder) -> None:
        self.store = store
        self._codec = codec
        self._settings = store.settings

    def timeline(self, recipient_id: str, before: str | None, limit: int) -> Timeline:
        """One page of a recipient's history. Raises ``ValueError`` for a bad ``before``."""
        limit = max(1, min(limit, self._settings.timeline_rows_max))
        cursor = bytes.fromhex(before) if before else None
        rows = self.store.history(recipient_id.encode(), cursor, limit + 1)
        items = [self._item(row) for row in rows[:limit]]
        more = rows[limit - 1].suffix.hex() if len(rows) > limit else None
        share = self._settings.bulk_kept_share
        return Timeline(recipient_id, self.store.partition, items, more, share)

    def event(self, recipient_id: str, event_id: str) -> Trace | None:
        """Trace of an event; ``None`` when nothing is recorded about it."""
        digest = event_digest(event_id, recipient_id)
        return self.notification(to_id(self.store.partition, digest))

    def notification(self, public_id: str, depth: int = 1) -> Trace | None:
        """Trace of a notification or digest, or of what a delivery id belongs to."""
        rows, recipient, is_cut = self._rows_about(public_id)
        if recipient is None:
            return None
        gathered = Gathered(public_id, rows, self._codec)
        if not gathered.entries and gathered.owner_id is not None:
            return self.notification(gathered.owner_id, depth)
        self._add_receipts(gathered, {row.suffix for row in rows})
        shown_max = self._settings.members_shown_max
        trace = gathered.trace(recipient.decode(), is_cut, self._is_closed, shown_max)
        if depth and trace.status.digest_id is not None:
            return replace(trace, digest=self.notification(trace.status.digest_id, depth - 1))
        return trace

    def totals(self) -> tuple[PartitionTotals, list[Count]]:
        """(where this partition's ledger stands, counts since its beginning)."""
        meta = self.store.meta()
        state = PartitionTotals(
            self.store.partition,
            self.store.offsets(),
            meta["repeats"],
            meta["lost_records"],
            meta["too_old"],
            self._settings.bulk_kept_share,
        )
        return state, [_count(key, n) for key, n in self.store.totals().items()]

    def reasons(self, asked: int | ReasonsQuestion) -> list[Count]:
        """Counts by hour of the last so many hours up to the newest decision, or as asked."""
        end_hour = self.store.newest_ms // HOUR_MS + 1
        if isinstance(asked, int):
            asked = ReasonsQuestion(hours=asked)
        return reasons(self.store, asked, end_hour, self._settings.hours_asked_max)

    def search(self, asked: SearchQuestion) -> SearchPage:
        """One page of what fits, newest first."""
        return search(self.store, self._codec, asked)

    def kept(self, recipient_id: str, mark: bytes) -> tuple[bool, bool]:
        """(whether there is any row about a recipient, whether the mark of an erasure is there)."""
        has_rows = self.store.rows_about(recipient_id.encode(), 1) > 0
        found = self.store.marks.known.get(mark)
        return has_rows, found is not None and found.until_ms == NEVER_MS

    def _rows_about(self, public_id: str) -> tuple[list[Row], bytes | None, bool]:
        limit = self._settings.trace_rows_max
        recipient, times = self.store.moments(public_id, limit + 1)
        rows: list[Row] = []
        if recipient is None:
            return rows, None, False
        for time_ms in times[:limit]:
            rows += self.store.rows_at(recipient, time_ms, limit + 1 - len(rows))
            if len(rows) > limit:
                break
        return rows[:limit], recipient, len(rows) > limit or len(times) > limit

    def _add_receipts(self, gathered: Gathered, known: set[bytes]) -> None:
        """Receipts that name only a delivery are found under its id."""
        for delivery_id in sorted(gathered.delivery_ids)[: self._settings.deliveries_asked_max]:
            rows, _, _ = self._rows_about(delivery_id)
            new = [row for row in rows if row.kind == "receipt" and row.suffix not in known]
            known.update(row.suffix for row in new)
            gathered.add_receipts(self._codec.decode("receipt", row.value) for row in new)

    def _is_closed(self, digest_id: str) -> bool:
        rows, _, _ = self._rows_about(digest_id)
        return Gathered(digest_id, rows, self._codec).is_closed

    def _item(self, row: Row) -> TimelineItem:
        fields = self._codec.decode(row.kind, row.value)
        if row.kind == "decision":
            return TimelineItem(row.time_ms, entries=entries_of(fields, decision_offset(row)))
        if row.kind == "outcome":
            return TimelineItem(row.time_ms, outcome=outcome_of(fields))
        return TimelineItem(row.time_ms, receipt=receipt_of(fields))


def _count(key: CountKey, count: int, hour_ms: int | None = None) -> Count:
    return Count(key.category, key.channel, key.what, key.reason, count, hour_ms)
