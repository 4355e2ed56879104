"""Quiet hours: the recipient's own, in their zone, as intervals of real time.

Windows are turned into merged, disjoint intervals around a UTC day once and kept: after that, "is
it quiet, until when, and when is it quiet next" is one bisection. A window belongs to the day on
which it starts; one that crosses midnight ends on the next; equal ends are empty; 0 to 1440 is a
whole day.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from streams.core import ids
from streams.core.local_time import instant, zone_of
from streams.core.model import Preferences, QuietWindow
from streams.core.policy import DAY_MS

DAYS_BEFORE, DAYS_AFTER = 2, 9
_EPOCH_DAY: Final = date(1970, 1, 1)

Intervals = tuple[tuple[int, int], ...]
CACHE_ENTRIES_MAX = 16_384
"""Different (windows, zone, day) kept at once: 1 KiB each, 100 us to make again."""


@lru_cache(maxsize=CACHE_ENTRIES_MAX)
def _edges_around(
    windows: tuple[QuietWindow, ...], zone_name: str, utc_day: int
) -> tuple[int, ...]:
    """Start, end, start, end, ... of ``intervals_around``: each later than the one before.

    How many of them are over says everything: after an odd number it is quiet until the next.
    """
    edges: list[int] = []
    for start, end in intervals_around(windows, zone_name, utc_day):
        edges += (start, end)
    return tuple(edges)


def intervals_around(windows: tuple[QuietWindow, ...], zone_name: str, utc_day: int) -> Intervals:
    """Disjoint [start_ms, end_ms) of quiet time from two days before to nine after, in order."""
    zone = zone_of(zone_name)
    found = []
    for ahead in range(-DAYS_BEFORE, DAYS_AFTER + 1):
        day = _EPOCH_DAY + timedelta(days=utc_day + ahead)
        for window in windows:
            if not window.weekdays >> day.weekday() & 1:
                continue
            overnight = 1440 if window.end_minute < window.start_minute else 0
            start = instant(day, window.start_minute, zone)
            end = instant(day, window.end_minute + overnight, zone)
            if start < end:
                found.append((start, end))
    return merge(sorted(found))


def merge(ordered: list[tuple[int, int]]) -> Intervals:
    """Joins intervals that touch or overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in ordered:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def quiet_until(preferences: Preferences, now_ms: int) -> int | None:
    """End of the quiet time that ``now_ms`` is in, or ``None`` when it is not quiet.

    Quiet time without end in sight (every day, all day) ends nine days on, and is asked again.
    """
    windows = preferences.quiet_hours
    if not windows:
        return None
    edges = _edges_around(windows, preferences.zone, now_ms // DAY_MS)
    over = bisect_right(edges, now_ms)
    return edges[over] if over % 2 else None


def next_quiet_ms(preferences: Preferences, now_ms: int) -> int | None:
    """Start of the next quiet time after ``now_ms``; ``None`` when there is none in sight."""
    windows = preferences.quiet_hours
    if not windows:
        return None
    edges = _edges_around(windows, preferences.zone, now_ms // DAY_MS)
    over = bisect_right(edges, now_ms)
    next_start = over + over % 2
    return edges[next_start] if next_start < len(edges) else None


def release_at(
    preferences: Preferences,
    until_ms: int,
    expires_at_ms: int,
    recipient_id: str,
    span_ms: int,
    lead_ms: int,
) -> int:
    """When to release what quiet time until ``until_ms`` held: spread, but never too late.

    Without the spread, eight o'clock would be a spike; with too much of it a notification would
    miss its expiry, or the free time before the next window.
    """
    next_ms = next_quiet_ms(preferences, until_ms)
    end_ms = expires_at_ms if next_ms is None else min(expires_at_ms, next_ms)
    return ids.spread(until_ms, end_ms - until_ms, recipient_id, span_ms, lead_ms)
