"""Answers of the last day, minute by minute, in memory: what a worker says of its providers.

Counts by (provider, status, reason) and histograms of times, in slots of a minute. Percentiles come
from fixed buckets, so that those of several workers can be added up: each is the upper bound of
the bucket that it falls into.

Pure: times are arguments. Invariants: bounded by ``MINUTES`` slots of ``KEYS_MAX`` keys, beyond
which a key counts as ``(other)``; nothing in it is about a person.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from streams.web.deliver_documents import AnswerCount, Minute, Times, Window

MINUTE_MS = 60_000
MINUTES = 24 * 60
KEYS_MAX = 200
OTHER = "(other)"
BOUNDS_MS = (
    1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 3_000, 5_000, 10_000,
    30_000, 60_000, 300_000, 3_600_000,
)  # fmt: skip
"""Upper bounds of the buckets; one more takes what is longer."""


class _Slot:
    __slots__ = ("answers", "event_times", "send_times")

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self.send_times: dict[str, list[int]] = {}
        self.event_times: dict[str, list[int]] = {}


class Rolling:
    """The last day of one worker."""

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}

    def add(
        self,
        now_ms: int,
        provider: str,
        status: str,
        reason: str,
        send_ms: float,
        priority: str = "",
        event_ms: int | None = None,
    ) -> None:
        """One answer. ``event_ms`` is how long the event took, where that can be said."""
        minute = now_ms // MINUTE_MS
        slot = self._slots.get(minute)
        if slot is None:
            slot = self._slots[minute] = _Slot()
            while len(self._slots) > MINUTES:
                del self._slots[next(iter(self._slots))]
        key = (provider, status, reason)
        if key not in slot.answers and len(slot.answers) >= KEYS_MAX:
            key = (provider, status, OTHER)
        slot.answers[key] += 1
        if send_ms:
            _count(slot.send_times, provider, send_ms)
        if event_ms is not None:
            _count(slot.event_times, priority, event_ms)

    def window(self, now_ms: int, minutes: int) -> Window:
        """All of the last ``minutes``, the present one included."""
        answers: Counter[tuple[str, str, str]] = Counter()
        send_times: dict[str, list[int]] = {}
        event_times: dict[str, list[int]] = {}
        for _, slot in self._last(now_ms, minutes):
            answers.update(slot.answers)
            _merge(send_times, slot.send_times)
            _merge(event_times, slot.event_times)
        return Window(
            minutes,
            [AnswerCount(*key, count) for key, count in sorted(answers.items())],
            [Times(name, counts) for name, counts in sorted(send_times.items())],
            [Times(name, counts) for name, counts in sorted(event_times.items())],
        )

    def minutes(self, now_ms: int, minutes: int) -> list[Minute]:
        """Each of the last minutes in which anything happened, oldest first."""
        found = []
        for minute, slot in self._last(now_ms, minutes):
            accepted: Counter[str] = Counter()
            other: Counter[str] = Counter()
            for (provider, status, _), count in slot.answers.items():
                (accepted if status == "accepted" else other)[provider] += count
            found.append(Minute(minute * MINUTE_MS, dict(accepted), dict(other)))
        return found

    def _last(self, now_ms: int, minutes: int) -> list[tuple[int, _Slot]]:
        first = now_ms // MINUTE_MS - minutes + 1
        return sorted((minute, slot) for minute, slot in self._slots.items() if minute >= first)


def percentile_ms(counts: Sequence[int], share: float) -> int | None:
    """Upper bound of the bucket that ``share`` of all are in or below; ``None`` for nothing."""
    total = sum(counts)
    if not total:
        return None
    wanted, seen = share * total, 0
    for place, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return BOUNDS_MS[min(place, len(BOUNDS_MS) - 1)]
    return BOUNDS_MS[-1]


def added(histograms: Iterable[Times]) -> dict[str, list[int]]:
    """Histograms of several workers, added by name."""
    found: dict[str, list[int]] = {}
    for one in histograms:
        _merge(found, {one.name: one.counts})
    return found


def _count(times: dict[str, list[int]], name: str, value_ms: float) -> None:
    counts = times.get(name)
    if counts is None:
        counts = times[name] = [0] * (len(BOUNDS_MS) + 1)
    counts[bisect_left(BOUNDS_MS, value_ms)] += 1


def _merge(into: dict[str, list[int]], more: dict[str, list[int]]) -> None:
    for name, counts in more.items():
        known = into.get(name)
        into[name] = (
            list(counts) if known is None else [a + b for a, b in zip(known, counts, strict=True)]
        )
