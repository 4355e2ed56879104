"""Every bound and choice of the ledger, by name, with its default.

``streams/settings.py`` fills this from ``[ledger]`` in ``flowstate.toml``; tests make it directly.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.ranges import OneOrMore, Share


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger worker.

    Times in milliseconds, sizes in bytes.
    """

    # -- how long history is kept
    retention_days: OneOrMore = 90
    """A bucket whose last day is older than this (by the newest decision seen) is dropped whole.
    A backtest over a long trace wants more days than the trace has."""
    partition_bytes_max: OneOrMore = 8 << 30
    """Per partition: above it the oldest buckets go, whatever their age; never the newest."""
    bucket_days: OneOrMore = 1
    """Days in one bucket (a column family). A partition keeps the value it was created with."""
    buckets_max: OneOrMore = 120
    """Open buckets per partition; the oldest go first. Each costs a little memory and a file."""
    hours_kept_max: OneOrMore = 24 * 90
    """Hours of counters kept per partition for ``/v1/reasons``; totals are kept for ever."""
    bulk_kept_share: Share = 1.0
    """Of notifications in categories with priority bulk only this share is kept with its whole
    story (drawn by id: all of it or nothing); counts are exact whatever it is. Answers say so."""
    count_keys_max: OneOrMore = 5_000
    """Distinct (category, channel, what, reason) per partition; beyond it they count as
    ``(other)``, so that a flood of made-up categories cannot fill the disk."""

    # -- taking
    records_max: OneOrMore = 2_000
    take_timeout_ms: OneOrMore = 500
    commit_ms: OneOrMore = 1_000
    """Group offsets (lag displays, and who owns a partition) are committed this often."""
    retention_check_ms: OneOrMore = 60_000
    sync_ms: OneOrMore = 1_000
    """How much a power cut may make the ledger read again from its topics; a killed process loses
    nothing."""
    retry_unavailable_ms: OneOrMore = 500
    hours_log_ms: OneOrMore = 60_000
    """How often changed counters by hour are written to their topic, which outlives the disk."""

    # -- memory
    block_cache_bytes: OneOrMore = 64 << 20
    """Shared by all partitions of the worker."""
    write_buffer_bytes: OneOrMore = 8 << 20
    """Per partition, over all its buckets."""

    # -- answering
    internal_secret: str = ""
    """Shared by all workers (a key at the top of the file): who shows it asks as a worker."""
    timeline_rows_max: OneOrMore = 200
    """Rows in one page of a timeline."""
    trace_rows_max: OneOrMore = 2_000
    """Rows looked at for one notification; a trace that is cut says so."""
    deliveries_asked_max: OneOrMore = 50
    """Deliveries of a notification whose receipts its trace looks up."""
    members_shown_max: OneOrMore = 50
    """Members of a digest that its trace lists; the count is exact."""
    hours_asked_max: OneOrMore = 24 * 31
    """Hours of counters that one question may span."""
    search_rows_max: OneOrMore = 500
    """Decisions that one page of a search looks at in one partition; the cursor goes on."""
    search_counters_max: OneOrMore = 20_000
    """Counters that it looks at to pass over hours in which nothing fits."""
    proxy_timeout_ms: OneOrMore = 1_000
    owners_cached_ms: int = 1_000
    """How long an answer to "who owns this partition" is believed."""
    retry_after_s: int = 1

    def __repr__(self) -> str:
        return f"LedgerSettings(retention_days={self.retention_days})"


class ReconcileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an audit reads the topics."""

    application: str = "flowstate"
    """Prefix of the groups: ``<application>-decide`` says how far events were taken."""
    security: dict[str, Any] = {}
    """Passed to every Kafka client as it is."""
    internal_secret: str = ""
    """Shown to the ledger that is compared with."""
    registry_url: str | None = None
    """For events in the Confluent wire format; without it their content is not checked."""
    stall_ms_max: OneOrMore = 30_000
    """An end that is not reached although nothing has arrived for so long is an error."""
    records_max: OneOrMore = 5_000
    problems_shown_max: int = 20
    ledger_wait_ms_max: int = 10_000
    """How long the ledger may take to catch up with what was read."""

    def __repr__(self) -> str:
        return f"ReconcileSettings(application={self.application!r})"
