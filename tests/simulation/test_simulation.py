"""Histories hold, replay exactly, and products that are broken on purpose do not pass."""

from __future__ import annotations

import pytest

from streams.simulation.run import simulate
from tests.faults.broken import BREAKS

CHUNKS, SEEDS_EACH = 10, 6
"""A few histories in every run of the tests; thousands are ``flowstate simulate``'s business."""
SEEDS_MAX = 60
"""Within so many histories each broken product must have been caught."""


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_histories_hold(chunk: int) -> None:
    for seed in range(chunk * SEEDS_EACH, (chunk + 1) * SEEDS_EACH):
        verdict = simulate(seed)
        assert not verdict.faults, f"seed {seed}: {verdict.faults}"


@pytest.mark.parametrize("seed", [3, 23])
def test_a_seed_is_a_history(seed: int) -> None:
    first, second = simulate(seed, tell=True), simulate(seed, tell=True)
    assert first.story == second.story
    assert first.digest == second.digest


def test_seeds_differ() -> None:
    assert simulate(1).digest != simulate(2).digest


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", list(BREAKS))
def test_a_broken_product_is_caught(name: str) -> None:
    undo = BREAKS[name]()
    try:
        caught = next((seed for seed in range(SEEDS_MAX) if simulate(seed).faults), None)
    finally:
        undo()
    assert caught is not None, f"{name} passes {SEEDS_MAX} histories"
