"""The core and the naive reference live the same random lives, and must decide the same.

A life is a random policy and any order of events, changes of mind, answers, receipts, waits,
restarts and replays. After each step the entries, deliveries and the next wake-up are compared,
and what must hold of any life is checked: ``lives.py`` says what.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.core import steps
from tests.core.lives import Life
from tests.core.profiles import tries
from tests.core.strategies import by_hypothesis, by_seed


class Lives(RuleBasedStateMachine):
    """One recipient, twice. Hypothesis makes what fails smaller."""

    life: Life

    @initialize(data=st.data())
    def born(self, data: st.DataObject) -> None:
        self.life = steps.born(by_hypothesis(data))

    @rule(data=st.data(), step=st.sampled_from(steps.STEPS))
    def step(self, data: st.DataObject, step: steps.Step) -> None:
        step(self.life, by_hypothesis(data))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "life"):
            self.life.check()

    def teardown(self) -> None:
        """Left alone, everything that waits comes to an end."""
        if hasattr(self, "life"):
            self.life.comes_to_rest()


Lives.TestCase.settings = tries(15, stateful_step_count=25)
TestLives = Lives.TestCase


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_seeded_lives(first: int) -> None:
    """The same steps, drawn fast."""
    for seed in range(first, first + 25):
        try:
            live(seed)
        except Exception as error:
            raise AssertionError(f"the life of seed {seed}") from error


def live(seed: int, length: int = 60) -> Counter[str]:
    """Lives one life to its end; answers with what was said in it."""
    pick = by_seed(seed)
    life = steps.born(pick)
    for _ in range(length):
        pick(steps.STEPS)(life, pick)
        life.check()
    life.comes_to_rest()
    return Counter(f"{entry.verdict} {entry.reason}" for entry in life.person.entries)
