"""A clock that jumps, or that the broker does not agree with, decides nothing."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from streams import topics
from streams.engine import clock
from streams.engine.clock import ClockWrong, WallClock, check_against_cluster
from streams.engine.topics_admin import create_topics
from tests.engine.harness import Bench

HOUR_MS = 3_600_000
ERROR_MS_MAX = 60_000


class Hands:
    """Two clocks that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ms, self.steady_ms = 1_700_000_000_000, 5_000
        monkeypatch.setattr(clock, "wall_ms", lambda: self.wall_ms)
        monkeypatch.setattr(clock, "_steady_ms", lambda: self.steady_ms)

    def pass_ms(self, length_ms: int, jump_ms: int = 0) -> None:
        self.wall_ms += length_ms + jump_ms
        self.steady_ms += length_ms


def fails(error: BaseException) -> None:
    raise AssertionError(error)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    return Hands(monkeypatch)


def test_time_passes(hands: Hands) -> None:
    wrong: list[BaseException] = []
    wall = WallClock(ERROR_MS_MAX, wrong.append)
    for _ in range(3):
        hands.pass_ms(30 * HOUR_MS)
        assert wall.now_ms() == hands.wall_ms
    assert not wrong


@pytest.mark.parametrize("jump_ms", [-25 * HOUR_MS, -2 * HOUR_MS, -60_001, 60_001, 2 * HOUR_MS])
def test_a_jump_is_told_and_never_given_as_the_time(hands: Hands, jump_ms: int) -> None:
    wrong: list[BaseException] = []
    wall = WallClock(ERROR_MS_MAX, wrong.append)
    hands.pass_ms(100, jump_ms)
    with pytest.raises(ClockWrong, match="jumped by"):
        wall.now_ms()
    assert len(wrong) == 1


def test_small_steps_are_let_pass_however_many(hands: Hands) -> None:
    wall = WallClock(ERROR_MS_MAX, fails)
    for _ in range(10):
        hands.pass_ms(100, 50_000)
        assert wall.now_ms() == hands.wall_ms


def test_in_stream_time_any_jump_is_let_pass(hands: Hands) -> None:
    wall = WallClock(0, fails)
    hands.pass_ms(100, 48 * HOUR_MS)
    assert wall.now_ms() == hands.wall_ms


@pytest.mark.broker
@pytest.mark.xdist_group("engine")
@pytest.mark.parametrize("hours", [-25, -2, 0, 2, 25])
async def test_the_broker_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    spec = msgspec.structs.replace(topics.BY_NAME[topics.TICKS], name=bench.names.normal + "-clock")
    await create_topics(bench.settings.bootstrap, [spec], 1, 1, False, {})
    monkeypatch.setattr(clock, "wall_ms", lambda: int(time.time() * 1000) + hours * HOUR_MS)
    asked: Any = check_against_cluster(bench.settings, spec.name)
    if hours == 0:
        await asked
        return
    with pytest.raises(ClockWrong, match="behind" if hours < 0 else "ahead of"):
        await asked
