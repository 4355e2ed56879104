"""Everything that is drawn: how long things take, who dies when, what comes back damaged.

One generator, seeded; so a seed is a whole history. Which kinds of trouble a history has is drawn
first ("swarm" testing): histories with everything at once hide what needs a quiet moment.

Invariant: nothing in a simulation is drawn from anywhere else.
"""

from __future__ import annotations

import contextvars
import random

import msgspec

from streams.simulation.loop import CURRENT, OUTSIDE, Process, SimLoop
from streams.simulation.story import Story

FORGETS_SHARE = 0.5
"""Histories in which a starting cluster forgets markers."""


class SimKilled(BaseException):
    """The process that runs this is dead: unwinds what is on its stack, and nothing else."""


class Troubles(msgspec.Struct, frozen=True):
    """Which kinds of trouble one history has, and how much."""

    kills: bool = False
    pauses: bool = False
    stops: bool = False
    joins: bool = False
    outages: bool = False
    disks: bool = False
    slow: bool = False
    provider_refusals: bool = False
    provider_silence: bool = False
    provider_outages: bool = False
    dead_addresses: bool = False
    garbage: bool = False
    repeats: bool = False
    """Producers send things again; receipts come in any order."""


def draw_troubles(draw: random.Random) -> Troubles:
    """Each kind with a chance of its own; now and then none at all."""
    chance = draw.choice((0.0, 0.3, 0.5, 0.8))
    return Troubles(*(draw.random() < chance for _ in Troubles.__struct_fields__))


class Chaos:
    """The one source of chance, and the hand that kills."""

    def __init__(
        self, loop: SimLoop, story: Story, seed: str, troubles: Troubles | None = None
    ) -> None:
        self.draw = random.Random(seed)
        drawn = draw_troubles(self.draw)
        self.troubles = drawn if troubles is None else troubles
        self.outside = contextvars.Context()
        self._loop = loop
        self._story = story
        # From a source of their own: drawn with the rest they would make every seed another story.
        self._forgetting = random.Random(f"{seed} markers")
        self._forgets = self._forgetting.random() < FORGETS_SHARE
        self._steps_left: dict[Process, int] = {}
        self._provider_us = self.draw.choice((4_000, 100_000, 600_000))
        self.deaths = 0

    # -- time

    def latency_us(self) -> int:
        """One way through the network."""
        if self.troubles.slow and self.draw.random() < 0.02:
            return self.draw.randint(50_000, 800_000)
        return self.draw.randint(200, 4_000)

    def marker_us(self) -> int:
        """How long the end of a transaction takes to one partition."""
        if self.draw.random() < 0.05:
            return self.draw.randint(10_000, 300_000)
        return self.draw.randint(100, 3_000)

    def forgets_marker(self) -> bool:
        """Whether a cluster that starts or stops never tells a partition of an end."""
        return self._forgets and self._forgetting.random() < 0.5

    def provider_us(self) -> int:
        """One way to or from a provider: what is under way at a kill is what this makes it."""
        return self.draw.randint(200, self._provider_us)

    def coin(self) -> bool:
        return self.draw.random() < 0.5

    # -- death

    def doom(self, process: Process, steps: int) -> None:
        """The process will be killed when it has made so many steps more."""
        self._steps_left[process] = steps

    def kill(self, process: Process, why: str) -> None:
        """SIGKILL."""
        if process.alive and process is not OUTSIDE:
            process.alive = False
            self.deaths += 1
            self._story.tell(f"KILLED {why}", process.name)

    def spare_everybody(self) -> None:
        """Nobody who is doomed dies after all."""
        self._steps_left.clear()

    def point(self, what: str) -> None:
        """A named crash point. Raises ``SimKilled`` when the process dies here."""
        process = CURRENT.get()
        if self._is_due(process):
            self.kill(process, f"at {what}")
        if not process.alive:
            raise SimKilled

    async def step(self, what: str) -> None:
        """A moment between two effects. Never returns when the process dies here."""
        process = CURRENT.get()
        if self._is_due(process):
            self.kill(process, f"at {what}")
        if not process.alive:
            await self._loop.create_future()

    def _is_due(self, process: Process) -> bool:
        left = self._steps_left.get(process)
        if left is None:
            return False
        if left <= 0:
            del self._steps_left[process]
            return True
        self._steps_left[process] = left - 1
        return False


class SimCrashPoints:
    """Stands in for ``engine.crash_points.CrashPoints``: any visit to any point may be the one."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos

    def pass_through(self, name: str) -> None:
        """A step that can be the last."""
        self._chaos.point(name)
