"""A worker's share of what a provider allows, without a coordinator.

Every partition brings a guaranteed floor of ``quota / N``; what the floors of idle workers leave
unused is shared max-min by demand. Demand is gossiped; a report that is old counts as full use of
that worker's floor, so silence never makes the sum exceed the quota.

Pure: times are arguments. Invariants: the shares that all workers compute from the same reports
sum to at most the quota; a bucket starts empty, so a worker that comes and goes gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

CLOCK_BACK_MS_MAX = 1_000
BURST_MS = 250
"""A bucket holds so much of its rate, and at least one token."""


class Demand(msgspec.Struct, frozen=True, array_like=True):
    """What one worker says once a second about one provider."""

    worker: str
    provider: str
    partitions: int
    per_second: float
    """Sends that it would make if it were not limited."""
    at_ms: int


def shares(quota: float, partitions: int, demands: Mapping[str, Demand]) -> dict[str, float]:
    """Worker -> sends a second. ``demands`` has one report per worker that owns partitions."""
    floors = {w: quota * d.partitions / partitions for w, d in demands.items()}
    granted = {w: min(floors[w], d.per_second) for w, d in demands.items()}
    owned = sum(d.partitions for d in demands.values())
    # Floors of partitions that nobody reported belong to workers that have not spoken yet.
    spare = quota * owned / partitions - sum(granted.values())
    hungry = {w: d.per_second - granted[w] for w, d in demands.items() if d.per_second > granted[w]}
    while hungry and spare > 1e-9:
        slice_ = spare / len(hungry)
        satisfied = {w: want for w, want in hungry.items() if want <= slice_}
        if not satisfied:
            for worker in hungry:
                granted[worker] += slice_
            break
        for worker, want in satisfied.items():
            granted[worker] += want
            spare -= want
            del hungry[worker]
    return granted


def share_of(
    worker: str, quota: float, partitions: int, demands: Mapping[str, Demand], own: int
) -> float:
    """This worker's rate: its share of what is known, never below its own floor."""
    floor = quota * own / partitions
    if worker not in demands:
        return floor
    return max(floor, shares(quota, partitions, demands)[worker])


class Bucket:
    """Token bucket whose rate may change; starts empty."""

    def __init__(self, now_ms: int) -> None:
        self._tokens = 0.0
        self._rate = 0.0
        self._at_ms = now_ms

    @property
    def per_second(self) -> float:
        """Tokens a second at present."""
        return self._rate

    def set_rate(self, per_second: float, now_ms: int) -> None:
        """From now on ``per_second`` tokens a second."""
        self._refill(now_ms)
        self._rate = per_second

    def take(self, now_ms: int) -> int | None:
        """Takes a token: ``None``, or the milliseconds until there may be one."""
        self._refill(now_ms)
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        if self._rate <= 0:
            return BURST_MS
        return max(1, int((1 - self._tokens) / self._rate * 1000) + 1)

    def give_back(self) -> None:
        """A token that was taken and not used."""
        self._tokens += 1

    def _refill(self, now_ms: int) -> None:
        if now_ms <= self._at_ms:
            # A clock that went back must not give the same time twice, nor stop us for hours.
            if self._at_ms - now_ms > CLOCK_BACK_MS_MAX:
                self._at_ms = now_ms
            return
        elapsed = now_ms - self._at_ms
        burst = max(1.0, self._rate * BURST_MS / 1000)
        self._tokens = min(burst, self._tokens + self._rate * elapsed / 1000)
        self._at_ms = now_ms
