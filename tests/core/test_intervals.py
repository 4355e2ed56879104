"""Quiet time by itself: the intervals of real time that windows stand for, and their edges."""

from __future__ import annotations

import pytest

from streams.core.local_time import DAY_MS
from streams.core.model import Preferences, QuietWindow
from streams.core.quiet_hours import (
    intervals_around,
    merge,
    next_quiet_ms,
    quiet_until,
    release_at,
)
from tests.core.build import DAY, HOUR, MINUTE, T0, at

MIDNIGHT = at("2026-03-10 00:00")
TODAY = MIDNIGHT // DAY_MS
NOON = (QuietWindow(12 * 60, 13 * 60),)
NIGHT = (QuietWindow(22 * 60, 8 * 60),)


def around(*windows: QuietWindow, zone: str = "UTC") -> list[tuple[float, float]]:
    """In hours after midnight."""
    found = intervals_around(windows, zone, TODAY)
    return [((start - MIDNIGHT) / HOUR, (end - MIDNIGHT) / HOUR) for start, end in found]


def test_the_windows_of_two_days_before_to_nine_after() -> None:
    assert around(*NOON) == [(24 * day + 12, 24 * day + 13) for day in range(-2, 10)]
    assert around(*NIGHT) == [(24 * day + 22, 24 * day + 32) for day in range(-2, 10)]
    assert around() == []


def test_a_window_without_length_is_none_and_a_whole_day_joins_the_next() -> None:
    assert around(QuietWindow(600, 600)) == []
    assert around(QuietWindow(0, 1440)) == [(-48, 240)]
    assert around(QuietWindow(1440, 0)) == [], "from midnight to the same midnight"
    assert around(QuietWindow(1439, 0)) == [(24 * day - 1 / 60, 24 * day) for day in range(-1, 11)]


def test_weekdays_are_bits_from_monday() -> None:
    """The 10th of March 2026 is a Tuesday."""
    for weekday, days in ((0, [-1, 6]), (1, [0, 7]), (2, [1, 8]), (6, [-2, 5])):
        window = QuietWindow(12 * 60, 13 * 60, 1 << weekday)
        assert around(window) == [(24 * day + 12, 24 * day + 13) for day in days]
    assert around(QuietWindow(12 * 60, 13 * 60, 0)) == []


def test_a_zone_moves_the_windows() -> None:
    assert around(*NOON, zone="Asia/Tokyo")[2] == (3, 4)
    assert around(*NOON, zone="America/New_York")[2] == (16, 17)


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        ([], ()),
        ([(1, 2)], ((1, 2),)),
        ([(1, 2), (2, 3)], ((1, 3),)),
        ([(1, 2), (3, 4)], ((1, 2), (3, 4))),
        ([(1, 9), (2, 3), (4, 10), (11, 12)], ((1, 10), (11, 12))),
        ([(1, 9), (2, 3), (9, 9), (10, 11)], ((1, 9), (10, 11))),
        ([(1, 2), (3, 5), (4, 6)], ((1, 2), (3, 6))),
    ],
)
def test_what_touches_or_overlaps_is_one(
    ordered: list[tuple[int, int]], expected: tuple[tuple[int, int], ...]
) -> None:
    assert merge(ordered) == expected


@pytest.mark.parametrize(
    ("moment", "until", "following"),
    [
        (12 * HOUR - 1, None, 12 * HOUR),
        (12 * HOUR, 13 * HOUR, 36 * HOUR),
        (12 * HOUR + 1, 13 * HOUR, 36 * HOUR),
        (13 * HOUR - 1, 13 * HOUR, 36 * HOUR),
        (13 * HOUR, None, 36 * HOUR),
        (0, None, 12 * HOUR),
        (24 * HOUR - 1, None, 36 * HOUR),
    ],
)
def test_the_edges_of_a_window(moment: int, until: int | None, following: int) -> None:
    chosen = Preferences(quiet_hours=NOON)
    found = quiet_until(chosen, MIDNIGHT + moment)
    assert found == (None if until is None else MIDNIGHT + until)
    assert next_quiet_ms(chosen, MIDNIGHT + moment) == MIDNIGHT + following


def test_a_window_of_one_weekday_comes_again_in_a_week() -> None:
    tuesday = Preferences(quiet_hours=(QuietWindow(12 * 60, 13 * 60, 1 << 1),))
    for later_ms in (13 * HOUR, 23 * HOUR, 24 * HOUR, 6 * DAY):
        assert next_quiet_ms(tuesday, MIDNIGHT + later_ms) == MIDNIGHT + 7 * DAY + 12 * HOUR
    never = Preferences(quiet_hours=(QuietWindow(12 * 60, 13 * 60, 0),))
    assert next_quiet_ms(never, MIDNIGHT) is None
    assert quiet_until(never, MIDNIGHT + 12 * HOUR) is None


def test_far_from_utc_the_nights_before_still_count() -> None:
    """An hour into the UTC day, yesterday's window is still open in the far west, and in the far
    east that of tomorrow's date may have begun."""
    one_o_clock = MIDNIGHT + HOUR
    for zone, window, until in (
        ("Etc/GMT+12", QuietWindow(12 * 60, 11 * 60), "2026-03-10 11:00"),  # 13:00 of the 9th.
        ("Pacific/Kiritimati", QuietWindow(14 * 60, 13 * 60), "2026-03-11 13:00"),
    ):
        chosen = Preferences(zone=zone, quiet_hours=(window,))
        assert quiet_until(chosen, one_o_clock) == at(until, zone)


@pytest.mark.parametrize(
    ("expires_ms", "room_ms"),
    [(10**15, 5 * MINUTE), (8 * HOUR + 2 * MINUTE, 2 * MINUTE), (8 * HOUR, 1), (7 * HOUR, 1)],
)
def test_a_release_has_room_until_the_expiry_or_the_next_quiet_time(
    expires_ms: int, room_ms: int
) -> None:
    chosen = Preferences(quiet_hours=(*NIGHT, QuietWindow(8 * 60 + 5, 12 * 60)))
    morning = MIDNIGHT + 8 * HOUR
    found = [
        release_at(chosen, morning, MIDNIGHT + expires_ms, f"r{n}", DAY, 0) - morning
        for n in range(200)
    ]
    assert 0 <= min(found) <= max(found) < room_ms
    assert max(found) >= room_ms * 0.9 - 1
    alone = Preferences(quiet_hours=(QuietWindow(22 * 60, 8 * 60, 0),))
    assert release_at(alone, T0, T0 + 1, "r", DAY, 0) == T0
