"""Local times by themselves: what is a time of day, which instant it is, and which comes next."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from streams.core import local_time
from tests.core.build import DAY, HOUR, MINUTE, SECOND, T0, at

NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("text", "minute"),
    [("00:00", 0), ("0:01", 1), ("8:05", 485), ("08:05", 485), ("23:59", 1439), ("24:00", 1440)],
)
def test_a_time_of_day(text: str, minute: int) -> None:
    assert local_time.parse_minute(text) == minute


@pytest.mark.parametrize(
    "text",
    ["24:01", "25:00", "99:59", "08:60", "8:5", "008:00", "8", "", "08:00 ", "-1:00", "\uff18:00"],
)
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        local_time.parse_minute(text)


def test_milliseconds_are_exact_there_and_back() -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    for ms in (0, 1, -1, 999, T0, T0 + 123):
        assert local_time.to_ms(local_time.local(ms, zone)) == ms
    assert local_time.to_ms(datetime(1970, 1, 1, 0, 0, 1, 2_999, UTC)) == 1_002
    assert local_time.local(T0, zone).isoformat() == "2026-03-01T17:45:00+05:45"


def test_a_zone_that_nobody_knows_is_utc() -> None:
    assert local_time.zone_of("Europe/Lisbon").key == "Europe/Lisbon"
    for name in ("Mars/Olympus", "", "../../etc/passwd", "a\0b", "x" * 5_000, "Europe"):
        assert local_time.zone_of(name).key == "UTC"
        assert not local_time.is_zone(name)
    assert local_time.is_zone("Europe/Lisbon")


@pytest.mark.parametrize(
    ("zone", "day", "minute", "utc"),
    [
        ("UTC", "2026-03-01", 0, "2026-03-01 00:00"),
        ("UTC", "2026-03-01", 1440, "2026-03-02 00:00"),
        (NEW_YORK, "2026-03-08", 119, "2026-03-08 06:59"),
        (NEW_YORK, "2026-03-08", 120, "2026-03-08 07:00"),  # Skipped: the moment of the change.
        (NEW_YORK, "2026-03-08", 150, "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08", 179, "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08", 180, "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08", 181, "2026-03-08 07:01"),
        (NEW_YORK, "2026-11-01", 90, "2026-11-01 05:30"),  # Repeated: the first time.
        (NEW_YORK, "2026-11-01", 120, "2026-11-01 07:00"),
        ("Australia/Lord_Howe", "2026-10-04", 135, "2026-10-03 15:30"),  # A gap of half an hour.
        ("Pacific/Apia", "2011-12-30", 720, "2011-12-30 10:00"),  # A day that never was.
        ("Africa/Monrovia", "1972-01-07", 20, "1972-01-07 00:44:30"),  # A gap of 44.5 minutes.
    ],
)
def test_every_local_time_has_one_instant(zone: str, day: str, minute: int, utc: str) -> None:
    found = local_time.instant(date.fromisoformat(day), minute, ZoneInfo(zone))
    assert found == at(utc)


def test_the_next_of_several_times_strictly_after_now() -> None:
    noon = at("2026-03-10 12:00")
    for now_ms, expected in (
        (noon - 1, noon),
        (noon, noon + 6 * HOUR),
        (noon + 6 * HOUR - 1, noon + 6 * HOUR),
        (noon + 6 * HOUR, noon + DAY),
        (noon + 7 * HOUR, noon + DAY),
    ):
        assert local_time.next_minute_of_day(now_ms, (18 * 60, 12 * 60), "UTC") == expected
    assert local_time.next_minute_of_day(noon, (12 * 60,), "UTC") == noon + DAY


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", NEW_YORK])
def test_far_from_utc_the_next_time_is_within_a_day(zone: str) -> None:
    for hour in range(48):
        now_ms = at("2026-03-10 00:00") + hour * HOUR
        found = local_time.next_minute_of_day(now_ms, (30,), zone)
        assert now_ms < found <= now_ms + DAY
        wall = local_time.local(found, ZoneInfo(zone))
        assert (wall.hour, wall.minute, wall.second) == (0, 30, 0)


def test_a_skipped_day_has_a_next_time() -> None:
    """Samoa went from the 29th to the 31st of December 2011."""
    now_ms = at("2011-12-29 23:00", "Pacific/Apia")
    found = local_time.next_minute_of_day(now_ms, (13 * 60,), "Pacific/Apia")
    assert found == at("2011-12-30 10:00")
    assert local_time.next_minute_of_day(found, (13 * 60,), "Pacific/Apia") == found + 13 * HOUR


def test_a_time_to_send_is_of_a_day_or_the_next_one() -> None:
    resolve = local_time.resolve_send_at
    assert resolve("12:00", T0, "UTC") == T0 + DAY
    assert resolve("12:01", T0, "UTC") == T0 + MINUTE
    assert resolve("2026-03-01T11:59", T0, "UTC") == T0 - MINUTE
    assert resolve("2026-03-01T12:00", T0, "Asia/Tokyo") == T0 - 9 * HOUR
    assert resolve("2026-03-01T24:00", T0, "UTC") == T0 + 12 * HOUR
    for text in ("2026-02-29T10:00", "T10:00", "2026-03-01T", "2026-03-01 10:00", "10"):
        with pytest.raises(ValueError, match=r"."):
            resolve(text, T0, "UTC")


def test_the_gap_is_found_to_the_second() -> None:
    found = local_time.instant(date(1972, 1, 7), 0, ZoneInfo("Africa/Monrovia"))
    assert found % MINUTE == 30 * SECOND
