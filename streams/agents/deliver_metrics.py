"""What the deliver role counts: answers, latency from event to provider, the state of providers.

Labels are names of the configuration, never recipients. Shown by the worker's ``/metrics`` beside
the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

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
        self._answers = Counter(
            "flowstate_answers", "Answers by provider and status.",
            ["kind", "provider", "status"], registry=registry,
        )  # fmt: skip
        self._send_seconds = Histogram(
            "flowstate_send_seconds", "Time that a provider took.", ["provider"],
            buckets=SECONDS_BUCKETS, registry=registry,
        )  # fmt: skip
        self._event_seconds = Histogram(
            "flowstate_event_to_answer_seconds", "From the event's append to the answer.",
            ["priority"], buckets=SECONDS_BUCKETS, registry=registry,
        )  # fmt: skip
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
        self._children: dict[tuple[str, str, str], Any] = {}
        # Looking up a child by its labels costs more than counting: names are few and stay.
        self._took = cache(self._send_seconds.labels)
        self._late = cache(self._event_seconds.labels)

    def answered(self, delivery: Delivery, answer: Answer, now_ms: int) -> None:
        """Counts an answer."""
        if self._observe is not None:
            self._observe(delivery, answer, now_ms)
        key = (delivery.kind, answer.provider, answer.outcome.status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._answers.labels(*key)
        child.inc()
        if answer.send_ms:
            self._took(answer.provider).observe(answer.send_ms / 1000)
            if answer.outcome.status == "accepted":
                late_ms = max(0, now_ms - delivery.appended_at_ms)
                self._late(delivery.priority).observe(late_ms / 1000)

    def on_app(self, app: Any) -> None:
        """Adds these metrics to the engine's ``/metrics`` where the app offers it."""
        app.engine.worker.metrics.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """What a registry asks of a collector."""
        return self.registry.collect()


def _is_open(provider: Provider) -> float:
    return float(provider.breaker.state != "closed")


def _is_held(provider: Provider) -> float:
    return float(provider.prune_guard.holding)


def _points(provider: Provider) -> float:
    return float(provider.health.points)
