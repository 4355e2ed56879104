"""The breaker's three states, by a clock that is an argument."""

from __future__ import annotations

from streams.sinks.breaker import Breaker
from streams.sinks.settings import BreakerSettings

SETTINGS = BreakerSettings(
    failures_min=4, failure_share=0.5, window_ms=1_000, open_ms=100, open_ms_max=400, probes=1
)


def opened() -> Breaker:
    breaker = Breaker(SETTINGS)
    for _ in range(4):
        breaker.failed(0)
    return breaker


def test_it_opens_for_many_failures_and_for_a_large_share_of_them() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(20):
        breaker.succeeded(0)
    for _ in range(10):
        breaker.failed(0)
    assert breaker.state == "closed", "a third of the answers is no outage"
    assert opened().state == "open"


def test_failures_outside_the_window_are_forgotten() -> None:
    breaker = Breaker(SETTINGS)
    for n in range(40):
        breaker.failed(n * 500)
    assert breaker.state == "closed"


def test_open_lets_nothing_through_then_one_probe() -> None:
    breaker = opened()
    assert not breaker.permits(99)
    assert breaker.retry_at_ms(99) == 100
    assert breaker.permits(100)
    assert not breaker.permits(100), "one probe at a time"
    breaker.succeeded(150)
    assert breaker.state == "closed"
    assert breaker.permits(150)


def test_a_failed_probe_doubles_the_pause_up_to_its_bound() -> None:
    breaker, at = opened(), 100
    for pause in (200, 400, 400):
        assert breaker.permits(at)
        breaker.failed(at)
        assert not breaker.permits(at + pause - 1)
        at += pause
    assert breaker.permits(at)


def test_a_probe_that_was_not_made_is_given_back() -> None:
    breaker = opened()
    assert breaker.permits(100)
    breaker.abandoned()
    assert breaker.permits(100)


def test_a_pause_that_the_provider_asked_for_holds_in_every_state() -> None:
    breaker = Breaker(SETTINGS)
    breaker.pause(500)
    assert not breaker.permits(499)
    assert breaker.retry_at_ms(0) == 500
    assert breaker.permits(500)
