"""Commits one partition's positions and marks, and with them renews the lease.

What waits for a commit asks for it (``wanted``); else there is one now and then while anything
moves. A commit that is accepted proves that the partition was still this worker's when it was sent,
which is what a lease is.

Invariants: what a mark names may be sent only after the mark was committed; a position is never
behind the one before it; the lease counts from the moment at which the commit was *sent*.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from streams.agents.deliver_log import OutcomeLog
from streams.agents.deliver_positions import TopicPositions
from streams.agents.deliver_terms import Mark, encode_mark
from streams.engine import roles
from streams.sinks.settings import DeliverSettings

TAIL_RECORDS_MAX = 5_000
"""Marks are renewed before a successor would have to read more outcomes than about this."""


class Commits:
    """Of one partition."""

    def __init__(
        self,
        context: roles.PartitionContext,
        settings: DeliverSettings,
        positions: Mapping[str, TopicPositions],
    ) -> None:
        self._context = context
        self._settings = settings
        self._positions = positions
        self._committed: dict[str, tuple[int, Mark]] = {}
        self._confirmed_at = 0.0
        self.wanted = asyncio.Event()
        """Something waits for a commit before it can be sent."""

    def age_s(self) -> float:
        """Seconds since this worker was last known to own the partition."""
        return time.monotonic() - self._confirmed_at

    async def run(self, outcomes: OutcomeLog, on_wanted: Callable[[], None]) -> None:
        """Commits until cancelled; ``on_wanted`` is called after a commit that was waited for."""
        settings = self._settings
        while True:
            await asyncio.sleep(settings.commit_interval_ms_min / 1000)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.commit_interval_ms / 1000):
                    await self.wanted.wait()
            wanted = self.wanted.is_set()
            self.wanted.clear()
            await self.commit(outcomes.end, confirm=self.age_s() > settings.lease_ms / 3000)
            if wanted:
                on_wanted()

    async def commit(
        self,
        outcomes_end: int,
        *,
        clean: bool = False,
        confirm: bool = False,
        starting: bool = False,
    ) -> None:
        """Commits what has moved; with ``confirm`` at least something, to renew the lease."""
        began = time.monotonic()
        moved: dict[str, roles.Committed] = {}
        states: dict[str, tuple[int, Mark]] = {}
        for topic, positions in self._positions.items():
            if not positions.outstanding and not starting:
                positions.moved_past(self._context.position(topic))
            state = positions.to_commit(outcomes_end, clean)
            if starting or clean or self._is_worth_it(topic, state):
                states[topic] = state
                moved[topic] = roles.Committed(state[0], encode_mark(state[1]))
        if not moved and confirm:
            topic, state = next(iter(self._committed.items()))
            moved[topic] = roles.Committed(state[0], encode_mark(state[1]))
        if moved:
            await self._context.commit(moved)
            self._committed.update(states)
            self._confirmed_at = began
            for topic, (_, mark) in states.items():
                self._positions[topic].committed(mark)

    def _is_worth_it(self, topic: str, state: tuple[int, Mark]) -> bool:
        """What moved; or a mark that would make a successor read a long tail."""
        position, mark = self._committed[topic]
        tail = state[1].outcomes_from - mark.outcomes_from
        before = (position, mark.send_below, mark.ahead_max)
        moved = before != (state[0], state[1].send_below, state[1].ahead_max)
        return moved or tail > TAIL_RECORDS_MAX
