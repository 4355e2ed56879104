"""Shares of a quota: never more than it, however workers come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sinks.budgets import Bucket, Demand, share_of, shares


def demand(worker: str, partitions: int, per_second: float) -> Demand:
    return Demand(worker, "p", partitions, per_second, 0)


def test_idle_floors_go_to_who_needs_them() -> None:
    demands = {"a": demand("a", 8, 10), "b": demand("b", 8, 1_000)}
    assert shares(100, 16, demands) == pytest.approx({"a": 10, "b": 90})


def test_the_floor_is_guaranteed() -> None:
    demands = {"a": demand("a", 4, 1_000), "b": demand("b", 12, 1_000)}
    assert shares(160, 16, demands) == pytest.approx({"a": 40, "b": 120})
    assert share_of("c", 160, 16, demands, 4) == 40


@given(
    st.floats(1, 1e6),
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1e6)), min_size=1, max_size=8),
)
def test_the_sum_never_exceeds_the_quota(quota: float, workers: list[tuple[int, float]]) -> None:
    demands = {
        str(n): demand(str(n), partitions, wanted) for n, (partitions, wanted) in enumerate(workers)
    }
    total = 32
    granted = shares(quota, total, demands)
    owned = sum(partitions for partitions, _ in workers)
    assert sum(granted.values()) <= quota * owned / total * 1.000_001
    for worker, one in demands.items():
        assert granted[worker] <= one.per_second * 1.000_001
        floor = quota * one.partitions / total
        assert granted[worker] >= min(floor, one.per_second) * 0.999_999


def test_a_bucket_starts_empty_and_never_gives_more_than_its_rate() -> None:
    bucket = Bucket(0)
    bucket.set_rate(100, 0)
    assert bucket.take(0) is not None, "a worker that comes and goes gains nothing"
    taken = sum(bucket.take(now_ms) is None for now_ms in range(10_000))
    assert 950 <= taken <= 1_000
    bucket.set_rate(0, 10_000)
    later = [bucket.take(now_ms) is None for now_ms in range(10_001, 60_000, 100)]
    assert sum(later) <= 1, "what was left over, and nothing after it"


def test_a_clock_that_goes_back_gives_nothing_twice() -> None:
    bucket = Bucket(1_000)
    bucket.set_rate(10, 1_000)
    assert bucket.take(1_200) is None
    assert sum(bucket.take(now) is None for now in (900, 1_000, 1_100)) <= 1
