"""A worker's share of what a provider allows, without a coordinator.

Every partition brings ``quota / N``, so the budget follows the partitions wherever they go: one
worker has all of it, four have a quarter each. Recipients are hashed over partitions, so demand is
spread as evenly as the shares are, and nothing has to be said between workers.

Where a provider asks for it (FCM) the rate is also *ramped*: it may grow by a sixtieth of the
share a second beyond what was used in the second before, so that it takes a minute from nothing to
all, and a burst after a quiet hour does not arrive at once.

Pure: times are arguments. Invariants: in any second and longer the sends of all workers are at
most the quota (shares under 20 a second: and one more for each worker); a bucket starts empty, so
a worker that comes and goes gains nothing.
"""

from __future__ import annotations

CLOCK_BACK_MS_MAX = 1_000
BURST_MS = 50
"""A bucket holds so much of its rate, and at least one token."""
RATE_SHARE = 1_000 / (1_000 + BURST_MS)
"""Of the share: with a whole bucket at its beginning a second still has no more than the share."""
TICK_MS = 1_000
"""How often a ramped rate is looked at."""


def share_of(quota: float, partitions: int, own: int) -> float:
    """Sends a second for a worker that owns ``own`` of ``partitions``."""
    return quota * RATE_SHARE * own / partitions


class Bucket:
    """Token bucket whose rate may change; starts empty. ``ramp_ms`` of 0 does not ramp."""

    def __init__(self, now_ms: int, ramp_ms: int = 0) -> None:
        self._tokens = 0.0
        self._rate = 0.0
        self._at_ms = now_ms
        self._ramp_ms = ramp_ms
        self._allowed = 0.0
        """The rate now: at most ``_rate``."""
        self._used = 0
        self._tick_ms = now_ms

    @property
    def per_second(self) -> float:
        """Tokens a second at present."""
        return self._rate

    def set_rate(self, per_second: float, now_ms: int) -> None:
        """From now on at most ``per_second`` tokens a second."""
        self._refill(now_ms)
        self._rate = per_second
        self._allowed = min(self._allowed, per_second) if self._ramp_ms else per_second
        if self._ramp_ms:
            self._allowed = max(self._allowed, self._step())
        self._tokens = min(self._tokens, self._burst())

    def take(self, now_ms: int) -> int | None:
        """Takes a token: ``None``, or the milliseconds until there may be one."""
        self._refill(now_ms)
        if self._tokens >= 1:
            self._tokens -= 1
            self._used += 1
            return None
        if self._allowed <= 0:
            return BURST_MS
        return max(1, int((1 - self._tokens) / self._allowed * 1000) + 1)

    def give_back(self) -> None:
        """A token that was taken and not used."""
        self._tokens += 1
        self._used -= 1

    def _step(self) -> float:
        """By how much a ramped rate may grow in a second; also where it begins."""
        return self._rate * TICK_MS / self._ramp_ms

    def _burst(self) -> float:
        return max(1.0, self._allowed * BURST_MS / 1000)

    def _refill(self, now_ms: int) -> None:
        if now_ms <= self._at_ms:
            # A clock that went back must not give the same time twice, nor stop us for hours.
            if self._at_ms - now_ms > CLOCK_BACK_MS_MAX:
                self._at_ms = self._tick_ms = now_ms
            return
        if self._ramp_ms and now_ms - self._tick_ms >= TICK_MS:
            used_per_second = self._used * 1000 / (now_ms - self._tick_ms)
            self._allowed = min(self._rate, used_per_second + self._step())
            self._used, self._tick_ms = 0, now_ms
        elapsed = now_ms - self._at_ms
        self._tokens = min(self._burst(), self._tokens + self._allowed * elapsed / 1000)
        self._at_ms = now_ms
