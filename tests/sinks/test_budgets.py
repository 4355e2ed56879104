"""Shares of a quota: never more than it, however workers come and go."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sinks.budgets import Bucket, share_of
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider
from tests.agents.delivering import delivery
from tests.sinks.test_dispatch import provider

QUOTA = 1_000.0
PARTITIONS = 16


def test_shares_are_the_partitions_and_never_more_than_the_quota() -> None:
    for owners in ([16], [4, 4, 4, 4], [8, 8], [15, 1], [5, 5, 6]):
        total = sum(share_of(QUOTA, PARTITIONS, own) for own in owners)
        assert 0.95 * QUOTA < total <= QUOTA
    assert share_of(QUOTA, PARTITIONS, 0) == 0


class Fleet:
    """Workers that send as much as they may, on one clock."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.owned: dict[str, int] = {}
        self.workers: dict[str, Dispatcher] = {}
        self.sent_at_ms: deque[int] = deque()
        self.most_in_a_second = 0

    def assign(self, **owned: int) -> None:
        """A rebalance: what is taken away is gone before others get it (as Kafka does it)."""
        for name in owned:
            if name not in self.workers:
                one = provider("p", quota_per_second=QUOTA, in_flight_max=10**9)
                one.bucket = Bucket(self.now_ms)
                self.workers[name] = Dispatcher({"sms": [one]}, PARTITIONS)
        for name in {**self.owned, **owned}:
            left = min(self.owned.get(name, 0), owned.get(name, 0))
            self.workers[name].own(left, self.now_ms)
        for name, partitions in owned.items():
            self.workers[name].own(partitions, self.now_ms)
        self.owned = owned

    def run(self, seconds: float) -> int:
        """Everybody sends whenever it may; returns how many were sent."""
        end_ms = self.now_ms + int(seconds * 1000)
        sent = 0
        while self.now_ms < end_ms:
            self.now_ms += 1
            for worker in self.workers.values():
                while isinstance(worker.reserve(delivery(1, "sms"), self.now_ms), Provider):
                    self.sent_at_ms.append(self.now_ms)
                    sent += 1
            while self.sent_at_ms and self.sent_at_ms[0] <= self.now_ms - 1_000:
                self.sent_at_ms.popleft()
            self.most_in_a_second = max(self.most_in_a_second, len(self.sent_at_ms))
        return sent


def test_the_sum_stays_under_the_quota_while_workers_go_from_1_to_4_to_2() -> None:
    fleet = Fleet()
    fleet.assign(a=16)
    one = fleet.run(3)
    fleet.assign(a=4, b=4, c=4, d=4)
    four = fleet.run(3)
    fleet.assign(a=8, c=8)
    two = fleet.run(3)
    assert fleet.most_in_a_second <= QUOTA
    for sent in (one, four, two):
        assert sent >= 0.9 * 3 * QUOTA, "and no worker leaves much of it lying"


def test_however_often_partitions_move_nothing_is_gained() -> None:
    fleet = Fleet()
    for turn in range(40):
        fleet.assign(**({"a": 16} if turn % 2 else {"b": 9, "c": 7}))
        fleet.run(0.1)
    assert fleet.most_in_a_second <= QUOTA


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


def per_second(bucket: Bucket, from_ms: int, seconds: int, most: float = 1e9) -> list[int]:
    """What a greedy sender (of at most ``most`` a second) got in each second."""
    got = []
    for second in range(seconds):
        taken = 0
        for ms in range(1_000):
            while taken < most * (ms + 1) / 1_000:
                if bucket.take(from_ms + second * 1_000 + ms) is not None:
                    break
                taken += 1
        got.append(taken)
    return got


def test_a_ramped_rate_takes_a_minute_to_its_height_and_again_after_a_quiet_hour() -> None:
    bucket = Bucket(0, ramp_ms=60_000)
    bucket.set_rate(600, 0)
    first = per_second(bucket, 0, 70)
    assert first[0] <= 12
    assert all(later - sooner <= 11 for sooner, later in pairwise(first))
    assert first[29] < 310
    assert first[-1] == pytest.approx(600, rel=0.02)
    hour_ms = 3_600_000
    assert per_second(bucket, 70_000 + hour_ms, 1)[0] <= 60, "a burst after silence starts low"


def test_a_ramp_follows_what_is_used_and_not_what_would_be_allowed() -> None:
    bucket = Bucket(0, ramp_ms=60_000)
    bucket.set_rate(600, 0)
    assert per_second(bucket, 0, 90, most=20)[-1] == 20
    assert per_second(bucket, 90_000, 1)[0] < 60, "ninety quiet seconds are no ramp"


@given(st.floats(0.1, 500), st.lists(st.integers(0, 400), min_size=1, max_size=200))
def test_in_any_time_no_more_than_the_rate_and_one_burst(rate: float, gaps: list[int]) -> None:
    bucket, now_ms, taken = Bucket(0), 0, 0
    bucket.set_rate(rate, 0)
    for gap in gaps:
        now_ms += gap
        while bucket.take(now_ms) is None:
            taken += 1
    assert taken <= rate * now_ms / 1000 + 1e-6
