"""Quiet hours against a clock that is walked minute by minute, in every zone there is."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import ids
from streams.core.model import Preferences, QuietWindow
from streams.core.policy import Category, DigestRule
from streams.core.quiet_hours import next_quiet_ms, quiet_until, release_at
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, SECOND, T0, Person, a_policy, at
from tests.core.profiles import tries
from tests.core.reference_time import MINUTE_MS, furthest_walls, is_quiet_wall

ZONES = sorted(available_timezones())
TEN_YEARS = 10 * 366
SPAN_MINUTES = 1_600
NIGHT = (QuietWindow(22 * 60, 8 * 60),)

WINDOWS = st.builds(
    QuietWindow,
    st.sampled_from([0, 1, 60, 90, 119, 120, 150, 179, 180, 600, 1200, 1320, 1439, 1440]),
    st.sampled_from([0, 1, 60, 90, 119, 120, 150, 179, 180, 420, 481, 1320, 1439, 1440]),
    st.one_of(st.just(127), st.integers(0, 127)),
)


@pytest.fixture(autouse=True)
def _worker_in_another_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker's own zone must not matter; this one is far from UTC and has odd DST."""
    monkeypatch.setenv("TZ", "Australia/Lord_Howe")
    time.tzset()
    yield
    monkeypatch.undo()
    os.environ.setdefault("TZ", "UTC")
    time.tzset()


@cache
def transitions(zone_name: str) -> tuple[int, ...]:
    """UTC minutes of every change of offset in the ten years after T0."""
    zone, found = ZoneInfo(zone_name), []
    start = datetime.fromtimestamp(T0 / 1000, UTC)
    for week in range(TEN_YEARS // 7):
        low, high = start + timedelta(weeks=week), start + timedelta(weeks=week + 1)
        if low.astimezone(zone).utcoffset() == high.astimezone(zone).utcoffset():
            continue
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) // 2
            middle -= timedelta(seconds=middle.second, microseconds=middle.microsecond)
            if low.astimezone(zone).utcoffset() == middle.astimezone(zone).utcoffset():
                low = middle
            else:
                high = middle
        found.append(int(high.timestamp()) // 60)
    return tuple(found)


@st.composite
def zoned_minutes(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a UTC minute, mostly within a day of one of its changes."""
    zone_name: str = draw(st.sampled_from(ZONES))
    changes = transitions(zone_name)
    if not changes or not draw(st.integers(0, 9)):
        return zone_name, T0 // MINUTE_MS + draw(st.integers(0, TEN_YEARS * 1440))
    change: int = draw(st.sampled_from(changes))
    offset: int = draw(st.integers(-1500, 1500))
    return zone_name, change + offset


@given(zoned_minutes(), st.lists(WINDOWS, min_size=1, max_size=3), st.integers(0, 59_999))
@tries(120)
def test_every_zone_and_transition_agrees_with_walking_the_minutes(
    where: tuple[str, int], windows: list[QuietWindow], past_minute_ms: int
) -> None:
    zone_name, minute = where
    chosen = Preferences(zone=zone_name, quiet_hours=tuple(windows))
    now_ms = minute * MINUTE_MS + past_minute_ms
    walked = furthest_walls(zone_name, minute, SPAN_MINUTES)
    is_quiet = is_quiet_wall(next(walked)[1], chosen.quiet_hours)
    changes = (m for m, wall in walked if is_quiet_wall(wall, chosen.quiet_hours) != is_quiet)
    expected = next(changes, None)
    found = quiet_until(chosen, now_ms) if is_quiet else next_quiet_ms(chosen, now_ms)
    if not is_quiet:
        assert quiet_until(chosen, now_ms) is None
    if expected is not None:
        assert found == expected * MINUTE_MS
    elif is_quiet or found is not None:
        assert found is not None
        assert found >= (minute + SPAN_MINUTES) * MINUTE_MS


@pytest.mark.parametrize(
    ("zone", "window", "moment", "until"),
    [
        # Midnight crossing, before and after midnight.
        ("Europe/Lisbon", (1320, 420), "2026-03-10 23:00", "2026-03-11 07:00"),
        ("Europe/Lisbon", (1320, 420), "2026-03-10 03:00", "2026-03-10 07:00"),
        ("Europe/Lisbon", (1320, 420), "2026-03-10 12:00", None),
        # The end is skipped by the spring gap (02:00 -> 03:00): the next valid instant.
        ("America/New_York", (0, 150), "2026-03-08 01:00", "2026-03-08 03:00"),
        # The start is skipped: it starts with the jump.
        ("America/New_York", (150, 240), "2026-03-08 03:30", "2026-03-08 04:00"),
        # All of it is skipped: never quiet.
        ("America/New_York", (130, 160), "2026-03-08 03:00", None),
        # Zero length, and the whole day.
        ("UTC", (600, 600), "2026-03-10 10:00", None),
        ("Asia/Kathmandu", (0, 1440), "2026-03-10 10:00", "2026-03-19 00:00"),
    ],
)
def test_named_cases(zone: str, window: tuple[int, int], moment: str, until: str | None) -> None:
    chosen = Preferences(zone=zone, quiet_hours=(QuietWindow(*window),))
    found = quiet_until(chosen, at(moment, zone))
    if until is not None and zone == "Asia/Kathmandu":  # No end in sight: some days on.
        assert found is not None
        assert found > at(moment, zone) + 7 * DAY
        return
    assert found == (None if until is None else at(until, zone))


def test_a_repeated_hour_ends_the_window_the_first_time() -> None:
    chosen = Preferences(zone="America/New_York", quiet_hours=(QuietWindow(60, 90),))
    first = at("2026-11-01 01:10", "America/New_York")
    assert quiet_until(chosen, first) == first + 20 * MINUTE
    assert quiet_until(chosen, first + HOUR) is None, "01:10 again: the window is over"
    longer = Preferences(zone="America/New_York", quiet_hours=(QuietWindow(60, 180),))
    assert quiet_until(longer, first + HOUR) == at("2026-11-01 03:00", "America/New_York")


def test_weekdays_name_the_day_on_which_a_window_starts() -> None:
    friday_night = Preferences(quiet_hours=(QuietWindow(1320, 420, 1 << 4),))
    assert quiet_until(friday_night, at("2026-03-06 23:00")) == at("2026-03-07 07:00")
    assert quiet_until(friday_night, at("2026-03-07 03:00")) == at("2026-03-07 07:00")
    assert quiet_until(friday_night, at("2026-03-07 23:00")) is None
    assert next_quiet_ms(friday_night, at("2026-03-07 23:00")) == at("2026-03-13 22:00")


def test_windows_that_touch_are_one() -> None:
    chosen = Preferences(quiet_hours=(QuietWindow(60, 120), QuietWindow(120, 180)))
    assert quiet_until(chosen, at("2026-03-10 01:30")) == at("2026-03-10 03:00")


def test_no_windows_is_never_quiet() -> None:
    assert quiet_until(Preferences(), T0) is None
    assert next_quiet_ms(Preferences(), T0) is None


# ----------------------------------------------------------------------------- what a category does


def at_night(category: Category, **preferences: object) -> Person:
    return Person(
        a_policy(category), PHONE, MAIL, now_ms=at("2026-03-10 23:00"), quiet_hours=NIGHT,
        **preferences,
    )  # fmt: skip


def test_hold_waits_for_the_morning_and_is_checked_again() -> None:
    ana = at_night(Category("message"))
    ana.gets("e1")
    assert ana.verdicts == ["held quiet_hours"]
    assert ana.entries[0].until_ms == at("2026-03-11 08:00")
    assert ana.entries[0].inputs["zone"] == "UTC"
    ana.waits(at("2026-03-11 07:59"))
    assert not ana.sent
    ana.waits(at("2026-03-11 08:00"))
    assert ana.sent == [("e1", "push")]
    assert ana.verdicts[-1] == "delivering released"


def test_who_opts_out_while_held_gets_nothing() -> None:
    ana = at_night(Category("message"))
    ana.gets("e1")
    ana.prefers(quiet_hours=NIGHT, categories={"message": False})
    assert ana.verdicts == ["held quiet_hours", "suppressed opted_out"]
    ana.waits_for(DAY)
    assert not ana.sent


def test_drop_says_so() -> None:
    ana = at_night(Category("message", quiet_action="drop"))
    ana.gets("e1")
    assert ana.verdicts == ["dropped quiet_hours"]


def test_downgrade_goes_to_the_quiet_channel_or_else_waits() -> None:
    quietly = Category("message", quiet_action="downgrade", downgrade_to=("email",))
    ana = at_night(quietly)
    ana.gets("e1")
    assert ana.sent == [("e1", "email")]
    assert ana.deliveries[0].valid_until_ms == ana.now_ms + 15 * MINUTE
    ana.removes(MAIL)
    ana.gets("e2")
    assert ana.verdicts[-1] == "held quiet_hours"


def test_digest_gathers_what_the_night_brings() -> None:
    ana = at_night(Category("message", quiet_action="digest"))
    for number in range(3):
        ana.gets(f"e{number}")
        ana.waits_for(HOUR)
    assert ana.verdicts == ["digested digested"] * 3
    assert ana.entries[0].inputs["because"] == "quiet_hours"
    ana.waits(at("2026-03-11 08:00"))
    assert ana.sent == [("digest", "push")]
    assert ana.deliveries[0].count == 3


def test_a_night_digest_survives_a_change_of_other_preferences() -> None:
    ana = at_night(Category("message", quiet_action="digest"))
    ana.gets("e1")
    ana.prefers(quiet_hours=NIGHT, locale="pt")
    ana.gets("e2")
    assert not any(verdict.startswith("digest_closed") for verdict in ana.verdicts)
    ana.prefers(quiet_hours=(), locale="pt")
    assert ana.sent == [("digest", "push")]
    assert ana.deliveries[0].count == 2


def test_a_night_does_not_shorten_a_daily_digest() -> None:
    daily = Category(
        "message", quiet_action="digest", digest=DigestRule("calendar", times=("18:00",))
    )
    ana = Person(a_policy(daily), PHONE, now_ms=at("2026-03-10 21:00"), quiet_hours=NIGHT)
    ana.gets("e1")
    ana.waits(at("2026-03-10 23:00"))
    ana.gets("e2")
    ana.waits(at("2026-03-11 17:59"))
    assert not ana.sent
    ana.waits(at("2026-03-11 18:00"))
    assert [d.count for d in ana.deliveries] == [2]


def test_a_changed_zone_releases_or_holds_anew() -> None:
    ana = at_night(Category("message"), zone="UTC")
    ana.gets("e1")
    ana.gets("e2", send_at_ms=ana.now_ms + DAY)
    ana.prefers(quiet_hours=NIGHT, zone="Asia/Tokyo")  # 08:00 there: the night is over
    assert ana.sent == [("e1", "push")]
    west = at_night(Category("message"), zone="UTC")
    west.gets("e1")
    west.prefers(quiet_hours=NIGHT, zone="Atlantic/Azores")  # 22:00 there
    assert west.verdicts == ["held quiet_hours"] * 2
    assert west.entries[-1].until_ms == at("2026-03-11 08:00", "Atlantic/Azores")


def test_what_expires_before_the_morning_expires() -> None:
    ana = at_night(Category("message"))
    ana.gets("e1", expires_at_ms=ana.now_ms + HOUR)
    assert ana.entries[0].until_ms == ana.now_ms + HOUR
    ana.waits_for(HOUR)
    assert ana.verdicts == ["held quiet_hours", "expired expired"]


def test_what_is_sent_before_quiet_hours_is_not_valid_in_them() -> None:
    ana = Person(
        a_policy(Category("message")), PHONE, now_ms=at("2026-03-10 21:55"), quiet_hours=NIGHT
    )
    ana.gets("e1")
    assert ana.deliveries[0].valid_until_ms == at("2026-03-10 22:00")
    ana.gets("e2", expires_at_ms=ana.now_ms + MINUTE)
    assert ana.deliveries[1].valid_until_ms == ana.now_ms + MINUTE


# ------------------------------------------------------------------------------------------ spread


def test_releases_are_spread_by_recipient() -> None:
    chosen = Preferences(quiet_hours=NIGHT)
    morning = at("2026-03-11 08:00")
    found = {
        release_at(chosen, morning, morning + DAY, f"r{n}", 10 * MINUTE, 0) for n in range(200)
    }
    assert len(found) > 150
    assert morning <= min(found)
    assert max(found) < morning + 10 * MINUTE
    assert max(found) - min(found) > 8 * MINUTE


def test_the_spread_ends_before_the_expiry_and_the_next_quiet_time() -> None:
    chosen = Preferences(quiet_hours=(*NIGHT, QuietWindow(8 * 60 + 5, 12 * 60)))
    morning = at("2026-03-11 08:00")
    span = DAY
    for number, lead in itertools.product(range(100), (0, 2 * MINUTE, 5 * MINUTE)):
        recipient = f"r{number}"
        assert (
            release_at(chosen, morning, morning + DAY, recipient, span, lead) < morning + 5 * MINUTE
        )
        soon = morning + 30 * SECOND
        assert release_at(chosen, morning, soon, recipient, span, lead) < soon
        assert release_at(chosen, morning, morning, recipient, span, lead) == morning
        assert release_at(chosen, morning, morning - HOUR, recipient, span, lead) == morning


def test_releases_keep_off_the_beginning_of_a_quarter_hour() -> None:
    """Eight o'clock is when everybody sends: 08:02 to 08:12 is not, and 08:15 is not reached."""
    chosen, morning = Preferences(quiet_hours=NIGHT), at("2026-03-11 08:00")
    lead, span = 2 * MINUTE, 10 * MINUTE
    for until_ms, first_ms in (
        (morning, morning + lead),
        (morning + MINUTE, morning + lead),
        (morning + lead, morning + lead),
        (morning + 7 * MINUTE, morning + 7 * MINUTE),
    ):
        times = [release_at(chosen, until_ms, DAY * 99_999, f"r{n}", span, lead) for n in range(99)]
        assert first_ms <= min(times) < first_ms + MINUTE
        assert first_ms + 9 * MINUTE < max(times) < first_ms + span
    no_room = [release_at(chosen, morning, morning + lead, f"r{n}", span, lead) for n in range(99)]
    assert morning <= min(no_room) < max(no_room) < morning + lead


def test_a_spread_release_is_at_its_own_time() -> None:
    policy = a_policy(Category("message"), release_jitter_ms=10 * MINUTE)
    ana = Person(policy, PHONE, now_ms=at("2026-03-10 23:00"), quiet_hours=NIGHT)
    ana.gets("e1")
    due_ms = at("2026-03-11 08:00") + ids.jitter("ana", 10 * MINUTE)
    assert ana.entries[0].until_ms == due_ms
    ana.waits(due_ms - 1)
    assert not ana.sent
    ana.waits(due_ms)
    assert ana.sent == [("e1", "push")]
