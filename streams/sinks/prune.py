"""Stops the removal of addresses when a provider suddenly calls too many of them gone.

One wrong answer of a provider (another environment, another app, an outage that answers 410) must
not cost the addresses of everybody. While more than a share of a provider's answers within a
window say so, none is believed: the address stays, and the delivery is tried again later.

Pure: ``now_ms`` is an argument. Invariants: memory is bounded by ``BUCKETS``; every answer counts,
believed or not, so the guard lets go by itself when the share falls, and cannot before; what is
pruned before it closes is at most about ``answers_min`` addresses of each worker.
"""

from __future__ import annotations

from collections import deque

from streams.sinks.settings import PruneSettings

BUCKETS = 60
"""The window moves in so many steps."""


class PruneGuard:
    """One provider's answers in one worker."""

    def __init__(self, settings: PruneSettings) -> None:
        self._settings = settings
        self._step_ms = max(1, settings.window_ms // BUCKETS)
        self._buckets: deque[list[int]] = deque()
        """[step, answers, of these prunes], oldest first."""
        self._answers = 0
        self._prunes = 0
        self.holding = False
        """Whether "gone" is not believed at the moment."""
        self.held = 0
        """How often it was not believed, since the start."""

    def believes(self, prunes: bool, now_ms: int) -> bool:
        """Takes an answer; False when it would remove an address and must not."""
        self._move_to(now_ms // self._step_ms)
        newest = self._buckets[-1]
        newest[1] += 1
        newest[2] += prunes
        self._answers += 1
        self._prunes += prunes
        self.holding = (
            self._answers >= self._settings.answers_min
            and self._prunes > self._settings.share_max * self._answers
        )
        if prunes and self.holding:
            self.held += 1
            return False
        return True

    def _move_to(self, step: int) -> None:
        if not self._buckets or step > self._buckets[-1][0]:
            self._buckets.append([step, 0, 0])
        # A clock that went back counts into the newest step: nothing is forgotten for it.
        while self._buckets[0][0] <= self._buckets[-1][0] - BUCKETS:
            _, answers, prunes = self._buckets.popleft()
            self._answers -= answers
            self._prunes -= prunes
