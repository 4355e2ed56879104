"""Histories hold, replay exactly, and products that are broken on purpose do not pass."""

from __future__ import annotations

import pytest

from streams.simulation.chaos import Troubles
from streams.simulation.run import simulate
from streams.simulation.worker import Worker
from streams.simulation.world import World
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


SCENARIOS = {
    "kills": Troubles(kills=True),
    "stops": Troubles(stops=True, slow=True),
    "zombies": Troubles(pauses=True),
    "rebalances": Troubles(joins=True, stops=True, pauses=True),
    "outages": Troubles(outages=True, kills=True),
    "disks": Troubles(kills=True, disks=True),
    "silence": Troubles(provider_silence=True, kills=True, slow=True),
    "refusals": Troubles(provider_refusals=True, provider_outages=True, dead_addresses=True),
    "producers": Troubles(garbage=True, repeats=True, kills=True),
}
"""Every kind of trouble with little else, so that none depends on a lucky draw."""
SCENARIO_OF = {
    "passing the undecided": "stops",
    "no lease": "zombies",
    "an end not told again": "outages",
    "going on unheard": "outages",
    "forgotten doubt": "silence",
    "commit before send": "silence",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenarios_hold(name: str) -> None:
    for seed in range(100, 105):
        verdict = simulate(seed, troubles=SCENARIOS[name])
        assert not verdict.faults, f"seed {seed} with {name}: {verdict.faults}"


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", list(BREAKS))
def test_a_broken_product_is_caught(name: str) -> None:
    troubles = SCENARIOS.get(SCENARIO_OF.get(name, ""))
    undo = BREAKS[name]()
    try:
        found = (seed for seed in range(SEEDS_MAX) if simulate(seed, troubles=troubles).faults)
        caught = next(found, None)
    finally:
        undo()
    assert caught is not None, f"{name} passes {SEEDS_MAX} histories"


def test_no_name_is_worn_twice_at_once() -> None:
    """Of two live processes under one name each sends as the owner: none may be started so."""
    world = World(1)
    for role in ("decide", "deliver"):
        worker = Worker(role, f"{role}-more", world.plan, world.groups[role])
        world.all_workers.append(worker)
        with pytest.raises(AssertionError, match=f"{role}-more runs twice at once"):
            world._start(role, worker.name)
        worker.process.alive = False  # It has ended, and is about to be started again.
    world._one_joins()
    assert not world.workers
