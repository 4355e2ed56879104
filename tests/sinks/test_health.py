"""A provider that is slow or fails loses share by tens, and gets it back by tens."""

from __future__ import annotations

from collections import Counter

import pytest

from streams.sinks.base import Rejected, Unregistered
from streams.sinks.dispatch import Dispatcher
from streams.sinks.health import Health
from streams.sinks.providers import Provider
from streams.sinks.settings import BreakerSettings, HealthSettings
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS, RENDERED
from tests.sinks.test_dispatch import dispatcher, provider

SETTINGS = HealthSettings(slow_ms=100, bad_share=0.15, answers_min=10, period_ms=1_000)


def period(health: Health, number: int, bad: int, good: int) -> int:
    at_ms = number * 1_000
    for n in range(bad + good):
        health.answered(500 if n < bad else 5, False, at_ms + n)
    return health.look(at_ms + 1_000)


def test_slow_answers_cost_ten_points_a_period_down_to_ten() -> None:
    health = Health(SETTINGS)
    assert [period(health, n, 3, 17) for n in range(4)] == [90, 80, 70, 60]
    assert [period(health, n, 20, 0) for n in range(4, 12)][-1] == 10
    assert [period(health, n, 0, 20) for n in range(12, 15)] == [20, 30, 40]


def test_a_few_slow_ones_and_a_few_answers_say_nothing() -> None:
    health = Health(SETTINGS)
    assert period(health, 0, 2, 18) == 100
    assert period(health, 1, 9, 0) == 100
    assert health.look(60_000) == 100, "silence is no illness"


def shares(every: Dispatcher, now_ms: int = NOW_MS) -> Counter[str]:
    counted: Counter[str] = Counter()
    for n in range(1_000):
        found = every.reserve(delivery(n, "sms"), now_ms)
        assert isinstance(found, Provider)
        every.release(found)
        counted[found.name] += 1
    return counted


def test_after_an_outage_the_share_returns_slowly_also_from_a_stand_by() -> None:
    main = provider("main", 100, breaker=BreakerSettings(failures_min=1), health=SETTINGS)
    spare = provider("spare", 0)
    every = dispatcher(main, spare)
    main.breaker.failed(NOW_MS)
    main.health.collapsed()
    assert shares(every) == {"spare": 1_000}
    later_ms = NOW_MS + 6_000
    assert main.breaker.permits(later_ms)
    main.breaker.succeeded(later_ms)
    assert shares(every, later_ms)["main"] == pytest.approx(100, abs=40)
    for step in range(1, 10):
        main.health.answered(5, False, later_ms + step * 1_000)
        expected = min(1_000, 100 * step)
        assert shares(every, later_ms + step * 1_000)["main"] == pytest.approx(expected, abs=60)
    main.health.answered(5, False, later_ms + 10_000)
    assert shares(every, later_ms + 10_000) == {"main": 1_000}


def test_when_all_are_ill_the_weights_decide() -> None:
    a, b = provider("a", 80), provider("b", 20)
    a.health.collapsed()
    b.health.collapsed()
    assert shares(dispatcher(a, b))["a"] == pytest.approx(800, abs=60)


@pytest.mark.parametrize("final", [Rejected("no"), Unregistered("gone")])
async def test_a_permanent_answer_never_fails_over(final: Rejected | Unregistered) -> None:
    a, b = provider("a", 100, outcomes=[final]), provider("b", 0, outcomes=[])
    every = dispatcher(a, b)
    some = delivery(1, "sms")
    assert every.reserve(some, NOW_MS) is a
    assert (await every.send(a, some, RENDERED)).outcome == final
    assert a.transport.requests  # type: ignore[attr-defined]
    assert not b.transport.requests  # type: ignore[attr-defined]
    assert a.health.points == 100
    assert a.breaker.state == "closed"
