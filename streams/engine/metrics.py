"""What the engine counts. One registry per worker; labels are partition numbers and lane names.

Nothing here names a recipient. ``/metrics`` on the worker's web server shows it all.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BATCH_BUCKETS = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000)
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of one worker."""

    def __init__(self, role: str) -> None:
        self.registry = CollectorRegistry()
        self.role = role
        labels, registry = ["partition"], self.registry
        self.records = Counter("flowstate_records", "Records decided.", labels, registry=registry)
        self.batch_records = Histogram(
            "flowstate_batch_records", "Records per batch.", buckets=BATCH_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.process_seconds = Histogram(
            "flowstate_process_seconds", "Time in the logic per batch.", buckets=SECONDS_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.commit_seconds = Histogram(
            "flowstate_commit_seconds", "Time of a transaction, begin to committed.",
            buckets=SECONDS_BUCKETS, registry=registry,
        )  # fmt: skip
        self.woken = Counter(
            "flowstate_woken", "Owners released by time.", labels, registry=registry
        )
        self.told_again = Counter(
            "flowstate_ends_told_again",
            "Partitions that Kafka had not told how a transaction ended, and that were told again.",
            labels, registry=registry,
        )  # fmt: skip
        self.lag = Gauge(
            "flowstate_lag_records", "Records not taken yet.", ["lane", "partition"],
            registry=registry,
        )  # fmt: skip
        self.restore_left = Gauge(
            "flowstate_restore_left_records", "Changelog offsets left to restore.", labels,
            registry=registry,
        )  # fmt: skip
        self.due_overdue_ms = Gauge(
            "flowstate_due_overdue_ms", "How late the earliest due time is.", labels,
            registry=registry,
        )  # fmt: skip
        self.state = Gauge(
            "flowstate_partition_state",
            "1 for the state that each owned partition is in.", ["partition", "state"],
            registry=registry,
        )  # fmt: skip
        self.store_bytes = Gauge(
            "flowstate_store_bytes", "Local state on disk.", labels, registry=registry
        )
        self.loop_stall_seconds = Gauge(
            "flowstate_loop_stall_seconds", "Longest recent block of the event loop.",
            registry=registry,
        )  # fmt: skip

    def of_partition(self, partition: int) -> PartitionMetrics:
        """Metrics of one partition, looked up once."""
        return PartitionMetrics(self, str(partition))

    def text(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)


class PartitionMetrics:
    """Children of the labelled metrics: a label look-up per batch would cost more than the rest."""

    def __init__(self, metrics: Metrics, partition: str) -> None:
        self._metrics = metrics
        self._partition = partition
        self._state: str | None = None
        self.records = metrics.records.labels(partition)
        self.batch_records = metrics.batch_records
        self.process_seconds = metrics.process_seconds
        self.commit_seconds = metrics.commit_seconds
        self.woken = metrics.woken.labels(partition)
        self.told_again = metrics.told_again.labels(partition)
        self.restore_left = metrics.restore_left.labels(partition)
        self.due_overdue_ms = metrics.due_overdue_ms.labels(partition)
        self.store_bytes = metrics.store_bytes.labels(partition)

    def lag(self, lane: str, records: int) -> None:
        """Sets the lag of a lane."""
        self._metrics.lag.labels(lane, self._partition).set(records)

    @property
    def entered(self) -> str:
        """The state that it is in; empty before the first."""
        return self._state or ""

    def enter(self, state: str | None) -> None:
        """Moves the partition from one state to another; ``None`` when it is given up."""
        if self._state is not None:
            self._metrics.state.remove(self._partition, self._state)
        self._state = state
        if state is not None:
            self._metrics.state.labels(self._partition, state).set(1)
