"""What a deliver worker counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.agents.deliver_metrics import DeliverMetrics
from streams.sinks.base import Accepted, Answer, Retry
from streams.sinks.dispatch import Dispatcher
from tests.agents.delivering import delivery


def test_counts_and_histograms_are_what_was_answered() -> None:
    metrics = DeliverMetrics(Dispatcher({}, 1))
    some = delivery(7, "apns")
    for send_ms in (10.0, 11.0, 5_000_000.0):
        metrics.answered(some, Answer(Accepted(), "a", send_ms), some.appended_at_ms + 40)
    metrics.answered(some, Answer(Retry("busy"), "a", 1.0), some.appended_at_ms)
    metrics.answered(some, Answer(Retry("none"), "", 0.0), some.appended_at_ms)
    registry = CollectorRegistry()
    registry.register(metrics)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert found["flowstate_answers_total", "a", "accepted", "apns"] == 3
    assert found["flowstate_answers_total", "", "apns", "retry"] == 1
    assert found["flowstate_send_seconds_bucket", "0.01", "a"] == 2
    assert found["flowstate_send_seconds_bucket", "0.025", "a"] == 3
    assert found["flowstate_send_seconds_bucket", "+Inf", "a"] == 4
    assert found["flowstate_send_seconds_count", "a"] == 4
    assert round(found["flowstate_send_seconds_sum", "a"], 3) == 5_000.022
    assert found["flowstate_event_to_answer_seconds_bucket", "0.05", some.priority] == 3
    assert found["flowstate_event_to_answer_seconds_bucket", "0.025", some.priority] == 0
