"""Dedupe by itself: where an id is found, what an hour holds, when it is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import dedupe
from streams.core.model import Activity, Event
from streams.core.policy import Bounds, Policy
from tests.core.build import DAY, HOUR, T0, a_policy
from tests.core.profiles import tries

ID, OTHER = b"iiiiiiii", b"oooooooo"
HOUR_OF_T0 = T0 // HOUR


def of_hour(count: int, horizon_ms: int = DAY) -> Policy:
    return a_policy(bounds=Bounds(seen_per_hour_max=count), dedupe_horizon_ms=horizon_ms)


def test_an_entry_is_found_whole_and_not_across_two() -> None:
    across = b"abababababab" * 2
    assert dedupe.find(across, b"babababa") == -1
    assert dedupe.find(across + b"babababaXXXX", b"babababa") == 24
    assert dedupe.find(across, b"abababab") == 0
    assert dedupe.find(b"", ID) == -1


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 3))
@tries(200)
def test_an_entry_is_where_a_list_has_it(entries: list[int], wanted: int) -> None:
    names = (b"abababab", b"babababa", b"aaaaaaaa", b"aaaaaaab")
    bucket = b"".join(names[one] + b"abab" for one in entries)
    expected = 12 * entries.index(wanted) if wanted in entries else -1
    assert dedupe.find(bucket, names[wanted]) == expected


def test_the_content_that_came_with_an_id() -> None:
    activity = Activity(seen=((5, OTHER + b"oooo" + ID + b"1234"), (6, OTHER + b"6666")))
    assert dedupe.was_seen(activity, ID, 5) == b"1234"
    assert dedupe.was_seen(activity, ID, 6) is None
    assert dedupe.was_seen(activity, OTHER, 6) == b"6666"
    assert dedupe.was_seen(activity, OTHER, 7) is None


def test_new_a_repeat_or_a_conflict() -> None:
    policy = of_hour(9)
    activity, _ = dedupe.remember(Activity(), ID, b"1234", T0, policy)
    assert dedupe.check(activity, ID, b"1234", T0, policy) == "duplicate"
    assert dedupe.check(activity, ID, b"4321", T0, policy) == "conflict"
    assert dedupe.check(activity, OTHER, b"1234", T0, policy) == "new"
    last_ms = (HOUR_OF_T0 + 25) * HOUR - 1
    assert dedupe.check(activity, ID, b"1234", last_ms, policy) == "duplicate"
    assert dedupe.check(activity, ID, b"1234", last_ms + 1, policy) == "new"


def test_the_first_hour_of_the_horizon() -> None:
    assert dedupe.since_hour(30 * HOUR, of_hour(9)) == 6
    assert dedupe.since_hour(30 * HOUR - 1, of_hour(9)) == 5
    assert dedupe.since_hour(30 * HOUR + 1, of_hour(9, 2 * HOUR)) == 28


def test_an_hour_holds_so_many_and_says_once_that_it_is_full() -> None:
    activity, flags = Activity(sent={"key": (1,)}), []
    for number in range(5):
        name = bytes([number]) * 8
        activity, is_full = dedupe.remember(activity, name, b"1234", T0, of_hour(3))
        flags.append(is_full)
    assert flags == [False, False, True, False, False]
    assert activity.seen == ((HOUR_OF_T0, b"".join(bytes([n]) * 8 + b"1234" for n in range(3))),)
    assert activity.sent == {"key": (1,)}


def test_each_hour_has_its_bucket_and_an_earlier_clock_writes_into_the_latest() -> None:
    policy, activity = of_hour(9), Activity()
    for number, now_ms in enumerate((T0, T0 + HOUR - 1, T0 + HOUR, T0 + 1)):
        activity, _ = dedupe.remember(activity, bytes([number]) * 8, b"1234", now_ms, policy)
    hours = [(hour, len(bucket) // dedupe.ENTRY_BYTES) for hour, bucket in activity.seen]
    assert hours == [(HOUR_OF_T0, 2), (HOUR_OF_T0 + 1, 2)]


def test_an_hour_goes_when_the_horizon_has_left_it() -> None:
    policy, activity = of_hour(9, 2 * HOUR), Activity()
    for hour in (0, 1, 2, 3):
        now_ms = T0 + hour * HOUR
        activity, _ = dedupe.remember(activity, bytes([hour]) * 8, b"1234", now_ms, policy)
    assert [hour - HOUR_OF_T0 for hour, _ in activity.seen] == [1, 2, 3]
    again, _ = dedupe.remember(activity, ID, b"1234", T0 + 4 * HOUR, policy)
    assert [hour - HOUR_OF_T0 for hour, _ in again.seen] == [2, 3, 4]
    later, _ = dedupe.remember(activity, ID, b"1234", T0 + 99 * HOUR, policy)
    assert [hour - HOUR_OF_T0 for hour, _ in later.seen] == [99]


def test_everything_in_an_event_is_its_content() -> None:
    event = Event("e1", "ana", "message", T0, data={"a": "1", "b": "2"})
    same = replace(event, data={"b": "2", "a": "1"})
    assert dedupe.content_hash(event) == dedupe.content_hash(same)
    assert len(dedupe.content_hash(event)) == 4
    others = [
        replace(event, **{field: value})
        for field, value in (
            ("category", "like"), ("created_at_ms", T0 + 1), ("data", {"a": "1", "b": "3"}),
            ("actor_id", "bob"), ("collapse_key", "k"), ("expires_at_ms", T0), ("send_at_ms", T0),
        )
    ]  # fmt: skip
    assert len({dedupe.content_hash(one) for one in (event, *others)}) == 8
