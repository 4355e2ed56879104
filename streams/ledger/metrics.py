"""What a ledger worker counts about itself. Shown by its ``/metrics`` beside the engine's own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

BATCH_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class LedgerMetrics:
    """Metrics of one worker. Labels are topics, partitions and pages, never recipients."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.records = Counter(
            "flowstate_ledger_records", "Records filed.", ["topic"], registry=registry
        )
        self.unreadable = Counter(
            "flowstate_ledger_unreadable", "Records that could not be read.", registry=registry
        )
        self.lost = Counter(
            "flowstate_ledger_lost",
            "Records gone from their topic before they were read.",
            registry=registry,
        )
        self.dropped = Counter(
            "flowstate_ledger_buckets_dropped", "Buckets dropped.", ["reason"], registry=registry
        )
        self.bytes = Gauge(
            "flowstate_ledger_bytes", "Size of the database.", ["partition"], registry=registry
        )
        self.buckets = Gauge(
            "flowstate_ledger_buckets", "Buckets of days.", ["partition"], registry=registry
        )
        self.batch_seconds = Histogram(
            "flowstate_ledger_batch_seconds",
            "Time to decode and write one batch.",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self.queries = Counter(
            "flowstate_ledger_queries", "Questions.", ["page", "status"], registry=registry
        )
        self.damaged = Counter(
            "flowstate_ledger_damaged_reads",
            "Questions that a damaged file kept from being answered.",
            registry=registry,
        )
        self.passed_on = Counter(
            "flowstate_ledger_passed_on",
            "Questions to another worker.",
            ["result"],
            registry=registry,
        )

    def collect(self) -> Iterable[Metric]:
        """What a registry asks of a collector: these can be registered in another registry."""
        return self.registry.collect()
