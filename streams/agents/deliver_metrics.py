"""What the deliver role counts: answers, latency from event to provider, the state of providers.

Labels are names of the configuration, never recipients. Shown by the worker's ``/metrics`` beside
the engine's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from streams.core.model import Delivery
from streams.sinks.base import Answer
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider

SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600)


class DeliverMetrics:
    """Metrics of one worker."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        observe: Callable[[Delivery, Answer, int], None] | None = None,
    ) -> None:
        self._observe = observe
        self.registry = registry = CollectorRegistry()
        opened = Gauge(
            "flowstate_provider_open", "1 while the provider's breaker is not closed.",
            ["provider"], registry=registry,
        )  # fmt: skip
        held = Gauge(
            "flowstate_provider_prune_held",
            "1 while the provider calls too many addresses gone to be believed.",
            ["provider"], registry=registry,
        )  # fmt: skip
        points = Gauge(
            "flowstate_provider_health_points",
            "Of 100: how often the provider is asked in its usual place among others of its kind.",
            ["provider"], registry=registry,
        )  # fmt: skip
        for provider in dispatcher.all():
            opened.labels(provider.name).set_function(partial(_is_open, provider))
            held.labels(provider.name).set_function(partial(_is_held, provider))
            points.labels(provider.name).set_function(partial(_points, provider))
        self._answers: dict[tuple[str, str, str], int] = {}
        self._took: dict[str, Times] = {}
        """Provider -> how long it took."""
        self._late: dict[str, Times] = {}
        """Priority -> how long after the event's append."""

    def answered(self, delivery: Delivery, answer: Answer, now_ms: int) -> None:
        """Counts an answer."""
        if self._observe is not None:
            self._observe(delivery, answer, now_ms)
        status = answer.outcome.status
        key = (delivery.kind, answer.provider, status)
        self._answers[key] = self._answers.get(key, 0) + 1
        if answer.send_ms:
            _times(self._took, answer.provider).add(answer.send_ms / 1000)
            if status == "accepted":
                late_ms = max(0, now_ms - delivery.appended_at_ms)
                _times(self._late, delivery.priority).add(late_ms / 1000)

    def on_app(self, app: Any) -> None:
        """Adds these metrics to the engine's ``/metrics`` where the app offers it."""
        app.engine.worker.metrics.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What a registry asks of a collector."""
        answers = CounterMetricFamily(
            "flowstate_answers", "Answers by provider and status.",
            labels=["kind", "provider", "status"],
        )  # fmt: skip
        for key, count in list(self._answers.items()):
            answers.add_metric(key, count)
        yield answers
        yield _histogram(
            "flowstate_send_seconds", "Time that a provider took.", "provider", self._took
        )
        yield _histogram(
            "flowstate_event_to_answer_seconds", "From the event's append to the answer.",
            "priority", self._late,
        )  # fmt: skip
        yield from self.registry.collect()


class Times:
    """A histogram over ``SECONDS_BUCKETS``. The client's own costs five times as much to count
    in: it is locked, and shared by threads that are none of these."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one; a bucket's bound is in it."""
        self.counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.sum_s += seconds


def _times(by_name: dict[str, Times], name: str) -> Times:
    found = by_name.get(name)
    if found is None:
        found = by_name[name] = Times()
    return found


def _histogram(
    name: str, about: str, label: str, by_name: dict[str, Times]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, about, labels=[label])
    bounds = [*map(floatToGoString, SECONDS_BUCKETS), "+Inf"]
    for value, times in list(by_name.items()):
        buckets = list(zip(bounds, accumulate(times.counts), strict=True))
        family.add_metric([value], buckets, times.sum_s)
    return family


def _is_open(provider: Provider) -> float:
    return float(provider.breaker.state != "closed")


def _is_held(provider: Provider) -> float:
    return float(provider.prune_guard.holding)


def _points(provider: Provider) -> float:
    return float(provider.health.points)
