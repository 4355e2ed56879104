"""Local wall time to instants: every local time of every zone has exactly one instant.

A time that a spring gap skips becomes the next valid instant, the moment of the change; a time
that an autumn fold repeats is its first occurrence. So a window has one start and one end, and
nothing is released twice or never.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

MINUTES_PER_DAY: Final = 1_440
DAY_MS: Final = MINUTES_PER_DAY * 60_000
CALENDAR_ENTRIES_MAX = 4_096
"""Different (times, zone, day) whose instants are kept at once: under 1 KiB each."""
_CLOCK: Final = re.compile(r"[0-9]{1,2}:[0-5][0-9]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """IANA zone by name; UTC for one that this release of tzdata does not know.

    Input is validated where it enters, so an unknown name can only be a zone that was removed:
    the recipient still has to be served.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def is_zone(name: str) -> bool:
    """True if tzdata knows the zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def to_ms(moment: datetime) -> int:
    """Aware datetime -> Unix milliseconds, exact."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def local(ms: int, zone: ZoneInfo) -> datetime:
    """Unix milliseconds -> aware local time."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)


def instant(day: date, minute: int, zone: ZoneInfo) -> int:
    """The one instant (ms) of ``minute`` of the local day; 1440 is the next day's midnight."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    ms = to_ms(wall.replace(tzinfo=zone, fold=0))
    if local(ms, zone).replace(tzinfo=None) == wall:
        return ms
    return _end_of_gap(wall, zone)


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> int:
    """The instant of the change that skipped ``wall``, by bisection to the second."""
    low = to_ms(wall.replace(tzinfo=zone, fold=1)) // 1000
    high = to_ms(wall.replace(tzinfo=zone, fold=0)) // 1000
    before = local(low * 1000, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if local(middle * 1000, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high * 1000


def parse_minute(text: str) -> int:
    """``HH:MM`` (``24:00`` included) -> minute of day. Raises ``ValueError``."""
    if _CLOCK.fullmatch(text) is None:
        raise ValueError("not HH:MM")
    hours, _, minutes = text.partition(":")
    minute = int(hours) * 60 + int(minutes)
    if minute > MINUTES_PER_DAY:
        raise ValueError("not a time of day")
    return minute


def next_minute_of_day(now_ms: int, minutes: tuple[int, ...], zone_name: str) -> int:
    """The next instant strictly after ``now_ms`` at which the local day reaches one of them."""
    around = _instants_around(minutes, zone_name, now_ms // DAY_MS)
    return around[bisect_right(around, now_ms)]


@lru_cache(maxsize=CALENDAR_ENTRIES_MAX)
def _instants_around(minutes: tuple[int, ...], zone_name: str, utc_day: int) -> tuple[int, ...]:
    """The instants of these minutes, in order, from before a UTC day until well after it.

    Local days begin up to a day before or after it, and no zone skips three days.
    """
    zone, first = zone_of(zone_name), _EPOCH.date() + timedelta(days=utc_day)
    days = [first + timedelta(days=ahead) for ahead in range(-2, 6)]
    return tuple(sorted({instant(day, minute, zone) for day in days for minute in minutes}))


def resolve_send_at(text: str, now_ms: int, zone_name: str) -> int:
    """``YYYY-MM-DDTHH:MM`` or ``HH:MM`` (the next one) -> instant. Raises ``ValueError``."""
    if "T" not in text:
        return next_minute_of_day(now_ms, (parse_minute(text),), zone_name)
    day, _, clock = text.partition("T")
    return instant(date.fromisoformat(day), parse_minute(clock), zone_of(zone_name))
