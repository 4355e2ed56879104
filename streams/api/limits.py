"""What one key may use: requests and events a second, and requests at once.

Token buckets that may go into debt: a batch of a thousand is let in when anything is left, and
what follows waits until the debt is paid. So a batch is never refused for its own size alone, and
the rate holds over time. Per process: with P processes behind a balancer a key may use P times as
much.

Pure but for the clock that is handed in. Invariant: one small object per key.
"""

from __future__ import annotations

import math

from streams.api.settings import KeyLimits

RETRY_S_MAX = 60


class Bucket:
    """Allowance of so much a second; 0 is no allowance asked for, so nothing is limited."""

    __slots__ = ("_at", "_capacity", "_left", "_per_second")

    def __init__(self, per_second: float, burst_seconds: float, now: float) -> None:
        self._per_second = per_second
        self._capacity = max(1.0, per_second * burst_seconds)
        self._left = self._capacity
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """0 when it was taken, else the seconds after which to ask again."""
        if self._per_second <= 0:
            return 0.0
        gained = max(0.0, now - self._at) * self._per_second
        self._at = max(self._at, now)
        self._left = min(self._capacity, self._left + gained)
        if self._left >= min(amount, 1.0):
            self._left -= amount
            return 0.0
        return (1.0 - self._left) / self._per_second


class Allowance:
    """The limits of one key."""

    __slots__ = ("_events", "_limits", "_requests", "under_way")

    def __init__(self, limits: KeyLimits, now: float) -> None:
        self._limits = limits
        self._requests = Bucket(limits.requests_per_second, limits.burst_seconds, now)
        self._events = Bucket(limits.events_per_second, limits.burst_seconds, now)
        self.under_way = 0

    @property
    def limits(self) -> KeyLimits:
        """What was configured."""
        return self._limits

    def enter(self, now: float) -> int:
        """0 when a request may begin, else whole seconds after which to ask again."""
        if self.under_way >= self._limits.concurrency_max:
            return 1
        return _whole(self._requests.take(1.0, now))

    def take_events(self, count: int, now: float) -> int:
        """0 when so many events may be sent, else whole seconds after which to ask again."""
        return _whole(self._events.take(float(count), now))


def _whole(seconds: float) -> int:
    return min(RETRY_S_MAX, math.ceil(seconds))
