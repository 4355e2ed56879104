"""What the ledger counts about itself, for ``/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("flowstate_ledger_records", "Records filed.", ["topic"])
UNREADABLE = Counter("flowstate_ledger_unreadable", "Records that could not be read.")
LOST = Counter("flowstate_ledger_lost", "Records gone from their topic before they were read.")
DROPPED = Counter("flowstate_ledger_buckets_dropped", "Buckets of days dropped.", ["reason"])
BYTES = Gauge("flowstate_ledger_bytes", "Size of a partition's ledger.", ["partition"])
BATCH_SECONDS = Histogram(
    "flowstate_ledger_batch_seconds",
    "Time to decode and write one batch.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
QUERIES = Counter("flowstate_ledger_queries", "Questions answered.", ["page", "status"])
FORWARDED = Counter("flowstate_ledger_forwarded", "Questions passed to another worker.", ["result"])
