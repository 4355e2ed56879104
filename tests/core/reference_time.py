"""Local time, naively: the reference walks minute by minute and asks zoneinfo each time.

The rule, from the design: a local time that a spring gap skips counts as reached when the clock
jumps past it; a local time that an autumn fold repeats was reached the first time. So what counts
is the *furthest* wall time that the zone's clock has shown so far, and that never goes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from streams.core.model import QuietWindow

MINUTE_MS = 60_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WARM_UP_MINUTES = 180
"""Longer than any hour that a clock repeats."""


def furthest_walls(
    zone_name: str, from_minute: int, minutes: int
) -> Iterator[tuple[int, datetime]]:
    """(UTC minute, furthest local wall time shown so far) for each minute, in order."""
    zone = ZoneInfo(zone_name)
    furthest = datetime.min  # noqa: DTZ901 - a wall time has no zone
    for minute in range(from_minute - WARM_UP_MINUTES, from_minute + minutes):
        moment = EPOCH + timedelta(minutes=minute)
        furthest = max(furthest, moment.astimezone(zone).replace(tzinfo=None))
        if minute >= from_minute:
            yield minute, furthest


def is_quiet_wall(wall: datetime, windows: tuple[QuietWindow, ...]) -> bool:
    """Is this wall time within a window that started today or yesterday?"""
    for days_ago in (0, 1):
        day = (wall - timedelta(days=days_ago)).date()
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall time
        for window in windows:
            if not window.weekdays & (1 << day.weekday()):
                continue
            end = window.end_minute + (1440 if window.end_minute < window.start_minute else 0)
            start_wall = midnight + timedelta(minutes=window.start_minute)
            if start_wall <= wall < midnight + timedelta(minutes=end):
                return True
    return False


@cache
def quiet_minutes(
    zone_name: str, windows: tuple[QuietWindow, ...], from_minute: int, minutes: int
) -> frozenset[int]:
    """UTC minutes that are quiet, by asking each of them."""
    return frozenset(
        minute
        for minute, wall in furthest_walls(zone_name, from_minute, minutes)
        if is_quiet_wall(wall, windows)
    )


@cache
def walls(zone_name: str, from_minute: int, minutes: int) -> tuple[datetime, ...]:
    """Furthest wall time of each minute."""
    return tuple(wall for _, wall in furthest_walls(zone_name, from_minute, minutes))


def first_reach(zone_name: str, wanted: datetime, from_minute: int, minutes: int) -> int | None:
    """UTC ms at which the zone's clock first reaches a wall time; ``None`` if not in the range."""
    for index, wall in enumerate(walls(zone_name, from_minute, minutes)):
        if wall >= wanted:
            return (from_minute + index) * MINUTE_MS
    return None
