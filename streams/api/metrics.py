"""What the API counts. Labels are routes and kinds, never people."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "flowstate_api_requests", "Requests answered.", ["operation", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "flowstate_api_request_seconds",
    "Time from a request's head to its answer.",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
EVENTS = Counter(
    "flowstate_api_events", "Events answered, by what became of them.", ["what"], registry=REGISTRY
)
RECEIPTS = Counter(
    "flowstate_api_receipts",
    "Receipts by where they came from and what became of them.",
    ["origin", "what"],
    registry=REGISTRY,
)
KAFKA_UP = Gauge("flowstate_api_kafka_up", "1 while writes are taken.", registry=REGISTRY)
