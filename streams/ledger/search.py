"""Search in one partition's ledger: by recipient, event id, reason, category, channel and time.

Newest first, a bounded number of decisions looked at for each page. A page ends at a millisecond
that it has looked at whole, so that the cursor is a time and pages of several partitions can be put
together without gap or repeat. Hours in which the counters know nothing that fits are passed over
unread.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streams.ledger.documents import SearchHit, SearchPage, TraceEntry
from streams.ledger.rows import EVENT, HOUR_MS, OTHER, UNKNOWN, CountKey, Row
from streams.ledger.store import LedgerStore
from streams.ledger.trace import Decoder, decision_offset, entries_of

LATEST_MS = 253_402_300_800_000
GIVEN_UP = b"\xff"
"""In the place of a recipient: more counters would have to be looked at than one page may."""
Place = tuple[int, bytes, Row | None]
"""(time, recipient, the decision's row), newest first; without a row: nothing down to that time."""


class SearchQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; ``None`` is anything."""

    recipient_id: str | None = None
    event_id: str | None = None
    category: str | None = None
    channel: str | None = None
    verdict: str | None = None
    reason: str | None = None
    from_ms: int = 0
    before_ms: int = LATEST_MS
    """Exclusive: the end of the range, or where the page before ended."""
    limit: int = 50

    def fits(self, entry: TraceEntry) -> bool:
        """Whether a verdict is looked for."""
        return (
            self.event_id in (None, entry.event_id)
            and self.category in (None, entry.category)
            and self.verdict in (None, entry.verdict)
            and self.reason in (None, entry.reason)
            and (
                self.channel is None
                or any(sent["channel"] == self.channel for sent in entry.deliveries)
            )
        )

    def may_count(self, key: CountKey) -> bool:
        """Whether what a counter counts could fit."""
        if key.what == EVENT or key.what.startswith(("answer:", "receipt:")):
            return False
        return key.category in (OTHER, UNKNOWN) or (
            self.category in (None, key.category)
            and self.verdict in (None, key.what)
            and self.reason in (None, key.reason)
            and self.channel in (None, key.channel)
        )


def search(store: LedgerStore, codec: Decoder, asked: SearchQuestion) -> SearchPage:
    """One page of what fits."""
    limit = max(1, min(asked.limit, store.settings.timeline_rows_max))
    looked_max = store.settings.search_rows_max
    hits: list[SearchHit] = []
    looked_at, floor_ms = 0, asked.before_ms
    for time_ms, recipient, row in _places(store, asked):
        is_enough = len(hits) >= limit or looked_at >= looked_max
        if recipient == GIVEN_UP or (is_enough and time_ms < floor_ms):
            floor_ms = min(floor_ms, time_ms) if recipient == GIVEN_UP else floor_ms
            return SearchPage(hits, floor_ms, looked_at, True, store.settings.bulk_kept_share)
        floor_ms = time_ms
        if row is None:
            continue
        looked_at += 1
        fields = codec.decode("decision", row.value)
        entries = reversed(entries_of(fields, decision_offset(row)))
        hits.extend(SearchHit(recipient.decode(), entry) for entry in entries if asked.fits(entry))
    return SearchPage(hits, None, looked_at, True, store.settings.bulk_kept_share)


def merged(pages: list[SearchPage], is_complete: bool) -> SearchPage:
    """Pages of several partitions as one. What is below the highest cursor comes again later."""
    floors = [page.before_ms for page in pages if page.before_ms is not None]
    floor_ms = max(floors, default=None)
    hits = [
        hit
        for page in pages
        for hit in page.hits
        if floor_ms is None or hit.entry.decided_at_ms >= floor_ms
    ]
    hits.sort(key=lambda hit: (-hit.entry.decided_at_ms, hit.entry.subject_id))
    share = min((page.bulk_kept_share for page in pages), default=1.0)
    return SearchPage(hits, floor_ms, sum(p.looked_at for p in pages), is_complete, share)


def _places(store: LedgerStore, asked: SearchQuestion) -> Iterator[Place]:
    """Decisions that may fit, newest first."""
    if asked.recipient_id is not None:
        recipient = asked.recipient_id.encode()
        for row in store.decisions_of(recipient, asked.from_ms, asked.before_ms):
            yield row.time_ms, recipient, row
        return
    if asked.event_id is not None:
        yield from store.decisions_about(asked.event_id, asked.from_ms, asked.before_ms)
        return
    for hour, is_given_up in _hours(store, asked):
        if is_given_up:
            yield (hour + 1) * HOUR_MS, GIVEN_UP, None
            return
        start_ms, end_ms = max(asked.from_ms, hour * HOUR_MS), (hour + 1) * HOUR_MS
        yield from store.decisions_between(start_ms, min(end_ms, asked.before_ms))
        yield start_ms, b"", None
    first_counted_ms = store.first_hour_counted * HOUR_MS
    if asked.from_ms < first_counted_ms:
        end_ms = min(first_counted_ms, asked.before_ms)
        yield from store.decisions_between(asked.from_ms, end_ms)


def _hours(store: LedgerStore, asked: SearchQuestion) -> Iterator[tuple[int, bool]]:
    """(hour in which something may fit, False), newest first; (first hour not looked at, True)
    when more counters would have to be looked at than one page may."""
    first = latest = -1
    looked_at = 0
    end_hour = -(-min(asked.before_ms, store.newest_ms + 1) // HOUR_MS)
    for hour, key, _ in store.hours_backwards(asked.from_ms // HOUR_MS, end_hour):
        first = hour if first < 0 else first
        looked_at += 1
        if hour == latest:
            continue
        if looked_at > store.settings.search_counters_max and hour < first:
            yield hour, True
            return
        if asked.may_count(key):
            latest = hour
            yield hour, False
