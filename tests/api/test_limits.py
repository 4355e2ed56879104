"""Allowances, on a clock that the test turns."""

from __future__ import annotations

from streams.api.limits import Allowance, Bucket
from streams.api.settings import KeyLimits


def test_the_rate_holds_over_time_whatever_the_sizes() -> None:
    bucket = Bucket(100.0, 1.0, 0.0)
    taken, now = 0.0, 0.0
    while now < 10:
        if bucket.take(250.0, now) == 0:
            taken += 250
        now += 0.01
    assert 1_000 <= taken <= 1_000 + 100 + 250


def test_a_large_batch_is_let_in_once_and_what_follows_waits_for_the_debt() -> None:
    bucket = Bucket(100.0, 1.0, 0.0)
    assert bucket.take(1_000, 0.0) == 0
    assert 9 < bucket.take(1, 0.0) < 9.2
    assert bucket.take(1, 9.02) == 0


def test_no_rate_is_no_limit_and_time_never_runs_back() -> None:
    assert Bucket(0.0, 1.0, 0.0).take(1e9, 0.0) == 0
    bucket = Bucket(1.0, 1.0, 10.0)
    assert bucket.take(1, 10.0) == 0
    assert bucket.take(1, 5.0) > 0


def test_concurrency_is_bounded_apart_from_the_rate() -> None:
    allowance = Allowance(KeyLimits(1_000.0, 0.0, 1.0, 2), 0.0)
    for _ in range(2):
        assert allowance.enter(0.0) == 0
        allowance.under_way += 1
    assert allowance.enter(0.0) == 1
    allowance.under_way -= 1
    assert allowance.enter(0.0) == 0
