"""A provider that suddenly calls everybody gone is not believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.sinks.base import Accepted, Rejected, Retry, Unregistered
from streams.sinks.prune import BUCKETS, PruneGuard
from streams.sinks.settings import PruneSettings
from tests.sinks.test_dispatch import dispatcher, provider, send

SETTINGS = PruneSettings(share_max=0.2, answers_min=10, window_ms=60_000, retry_ms=5_000)


def test_few_among_many_are_believed() -> None:
    guard = PruneGuard(SETTINGS)
    assert all(guard.believes(n % 5 == 4, n) for n in range(1_000))
    assert not guard.holding


def test_too_many_are_not_and_the_guard_lets_go_when_they_are_few_again() -> None:
    guard = PruneGuard(SETTINGS)
    believed = [guard.believes(True, 0) for _ in range(100)]
    assert believed == [True] * 9 + [False] * 91
    assert guard.holding
    assert guard.believes(False, 1), "an answer that removes nothing is never held"
    assert not guard.believes(True, 59_000), "the window has not passed"
    for _ in range(50):
        guard.believes(False, 120_000)
    assert guard.believes(True, 120_001), "it has let go"
    assert guard.held == 92


@given(st.lists(st.tuples(st.integers(-200_000, 200_000), st.booleans()), max_size=300))
def test_whatever_the_clock_does_memory_is_bounded_and_sums_are_right(
    steps: list[tuple[int, bool]],
) -> None:
    guard, now_ms = PruneGuard(SETTINGS), 1_000_000
    for step_ms, prunes in steps:
        now_ms += step_ms
        guard.believes(prunes, now_ms)
        assert len(guard._buckets) <= BUCKETS
        assert guard._answers == sum(bucket[1] for bucket in guard._buckets)
        assert guard._prunes == sum(bucket[2] for bucket in guard._buckets)


async def test_what_is_held_keeps_its_address_and_is_tried_again() -> None:
    one = provider("a", outcomes=[Unregistered("gone")] * 12 + [Accepted()], prune=SETTINGS)
    every = dispatcher(one)
    outcomes = [await send(every, one) for _ in range(12)]
    assert outcomes[:9] == [Unregistered("gone")] * 9
    assert outcomes[9:] == [Retry("prune_held", 5_000)] * 3
    assert await send(every, one) == Accepted(), "sending itself goes on"


async def test_a_quarantine_is_held_too_and_the_refusal_stays_one() -> None:
    wrong = Rejected("bad_device_token", quarantine=True)
    one = provider("a", outcomes=[wrong] * 10, prune=SETTINGS)
    every = dispatcher(one)
    outcomes = [await send(every, one) for _ in range(10)]
    assert outcomes[8] == wrong
    assert outcomes[9] == Rejected("bad_device_token")
