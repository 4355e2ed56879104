"""Circuit breaker: leaves a provider alone while it fails, and tries carefully again.

Pure: ``now_ms`` is an argument. Three states, one table::

    closed     enough failures in the window            -> open
    open       the pause is over                         -> half open (asked for by ``permits``)
    half open  a probe succeeds -> closed; one fails     -> open, twice as long

Invariants: an open breaker lets nothing through; a half open one at most ``probes`` at once; a
pause that the provider asked for (``Retry-After`` on a quota) holds whatever the state.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from streams.sinks.settings import BreakerSettings

SAMPLES_MAX = 10_000
"""Bound of the window's samples."""


class Breaker:
    """State of one provider in one worker."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self.state: Literal["closed", "open", "half_open"] = "closed"
        self._samples: deque[tuple[int, bool]] = deque()
        self._failures = 0
        self._open_until_ms = 0
        self._open_ms = settings.open_ms
        self._paused_until_ms = 0
        self._probing = 0

    def permits(self, now_ms: int) -> bool:
        """Whether a request may go now; in the half open state it takes one of the probes."""
        if now_ms < self._paused_until_ms:
            return False
        if self.state == "open" and now_ms >= self._open_until_ms:
            self.state, self._probing = "half_open", 0
        if self.state == "open":
            return False
        if self.state == "half_open":
            if self._probing >= self._settings.probes:
                return False
            self._probing += 1
        return True

    def retry_at_ms(self, now_ms: int) -> int | None:
        """When to ask again; ``None`` when a request may go, or only an answer can tell."""
        if now_ms < self._paused_until_ms:
            return max(self._paused_until_ms, self._open_until_ms if self.state == "open" else 0)
        return self._open_until_ms if self.state == "open" else None

    def succeeded(self, now_ms: int) -> None:
        """The provider answered sensibly (a refusal of one address is an answer)."""
        if self.state == "half_open":
            self.state, self._open_ms = "closed", self._settings.open_ms
            self._samples.clear()
            self._failures = 0
        self._sample(now_ms, failed=False)

    def failed(self, now_ms: int) -> None:
        """The provider failed: no answer, 5xx, or our credentials refused."""
        if self.state == "half_open":
            self._open_ms = min(self._open_ms * 2, self._settings.open_ms_max)
            self._open(now_ms)
            return
        self._sample(now_ms, failed=True)
        enough = self._failures >= self._settings.failures_min
        share = self._failures / len(self._samples)
        if self.state == "closed" and enough and share >= self._settings.failure_share:
            self._open(now_ms)

    def abandoned(self) -> None:
        """A permitted request was not made after all: gives a probe back."""
        if self.state == "half_open" and self._probing:
            self._probing -= 1

    def pause(self, until_ms: int) -> None:
        """The provider asked everyone to wait."""
        self._paused_until_ms = max(self._paused_until_ms, until_ms)
        self.abandoned()

    def _open(self, now_ms: int) -> None:
        self.state, self._open_until_ms = "open", now_ms + self._open_ms
        self._samples.clear()
        self._failures = 0

    def _sample(self, now_ms: int, *, failed: bool) -> None:
        self._samples.append((now_ms, failed))
        self._failures += failed
        oldest_ms = now_ms - self._settings.window_ms
        while self._samples[0][0] < oldest_ms or len(self._samples) > SAMPLES_MAX:
            self._failures -= self._samples.popleft()[1]
