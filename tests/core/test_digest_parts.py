"""A digest by itself: its rule, its key, when it closes, and what one more event adds to it."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import digest, members, sizes
from streams.core.ids import hash8, spread
from streams.core.model import Notification, OpenDigest, Preferences, Priority
from streams.core.policy import Bounds, Category, DigestRule
from tests.core.build import DAY, HOUR, MINUTE, T0, at
from tests.core.profiles import tries

KEYED = DigestRule("window", window_ms=5 * HOUR, key=("actor_id",), items_max=7, bytes_max=77)
TOLD = Notification("n", "message", "normal", T0, T0, T0 + DAY, {"a": "x"}, "e1", actor_id="bob")
AT_ONCE = ("ana", 0, 0)


def opened(told: Notification = TOLD, by: str = "") -> OpenDigest:
    return digest.open_digest(told, "key", "ana", 1, T0, by)


def grown(rule: DigestRule, *told: Notification, bounds: Bounds | None = None) -> OpenDigest:
    found = opened(told[0])
    for one in told:
        found = digest.add(found, one, rule, T0 + HOUR, T0 + 5, bounds or Bounds())
    return found


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("immediate", None),
        ("hourly", replace(KEYED, window_ms=HOUR)),
        ("daily@08:00", replace(KEYED, mode="calendar", times=("08:00",))),
        ("weekly", KEYED),
        ("", KEYED),
    ],
)
def test_a_choice_changes_when_and_keeps_the_rest(choice: str, expected: DigestRule | None) -> None:
    assert digest.chosen_rule(choice, KEYED) == expected
    category = Category("message", digest=KEYED)
    assert digest.rule_for(category, Preferences(digests={"message": choice})) == expected
    assert digest.rule_for(category, Preferences(digests={"like": choice})) == KEYED
    assert digest.rule_for(category, Preferences()) == KEYED


def test_a_choice_without_a_rule_of_the_catalogue_has_the_ordinary_one() -> None:
    plain = Category("message")
    assert digest.rule_for(plain, Preferences()) is None
    assert digest.rule_for(plain, Preferences(digests={"message": "weekly"})) is None
    hourly = digest.rule_for(plain, Preferences(digests={"message": "hourly"}))
    assert hourly == DigestRule("window", window_ms=HOUR)
    debounced = digest.chosen_rule("hourly", DigestRule("debounce", window_ms=MINUTE))
    assert debounced == DigestRule("window", window_ms=HOUR)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ((), ""),
        (("actor_id",), "bob"),
        (("data.thread",), "t1"),
        (("data.nothing",), ""),
        (("collapse_key",), "score"),
        (("collapse_key", "data.thread", "actor_id"), "score/t1/bob"),
        (("data.nothing", "actor_id"), "/bob"),
    ],
)
def test_a_key_is_made_of_fields_in_their_order(fields: tuple[str, ...], key: str) -> None:
    told = replace(TOLD, data={"thread": "t1"}, collapse_key="score")
    assert digest.key_of(DigestRule("window", key=fields), told) == key
    closed = replace(told, digest_key="as it was")
    assert digest.key_of(DigestRule("window", key=fields), closed) == "as it was"
    assert digest.key_of(DigestRule("window", key=("collapse_key",)), TOLD) == ""


def test_when_each_mode_closes() -> None:
    now_ms = T0 + 10 * MINUTE
    for rule, expected in (
        (DigestRule("window", window_ms=HOUR), T0 + HOUR),
        (DigestRule("lookback", window_ms=HOUR), T0 + HOUR),
        (DigestRule("debounce", window_ms=HOUR, age_ms_max=DAY), now_ms + HOUR),
        (DigestRule("debounce", window_ms=HOUR, age_ms_max=HOUR), T0 + HOUR),
        (DigestRule("calendar", times=("12:05",)), T0 + 5 * MINUTE),
        (DigestRule("calendar", times=("12:00",)), T0 + DAY),
        (DigestRule("calendar"), at("2026-03-02 09:00")),
    ):
        assert digest.close_time(rule, T0, now_ms, "UTC", AT_ONCE) == expected
    daily, wide = DigestRule("calendar", times=("13:00",)), ("ana", 3 * DAY, 2 * MINUTE)
    found = digest.close_time(daily, T0, now_ms, "UTC", wide)
    assert found == spread(T0 + HOUR, DAY, *wide), "before the next day's"


def test_an_empty_digest_is_like_its_first_event() -> None:
    told = replace(TOLD, priority="bulk", campaign="spring", appended_at_ms=T0 - 7)
    found = opened(told, "quiet_hours")
    assert (found.key, found.category, found.priority) == ("key", "message", "bulk")
    assert (found.campaign, found.opened_by, found.closing) == (
        "spring",
        "quiet_hours",
        "digest_due",
    )
    assert found.opened_at_ms == found.closes_at_ms == found.last_at_ms == T0
    assert (found.appended_at_ms, found.expires_at_ms) == (T0 - 7, T0 + DAY)
    assert (found.count, found.members, found.actors, found.items) == (0, b"", b"", ())
    assert found.size_bytes == 0
    other = digest.open_digest(replace(told, event_id="e2"), "key", "ana", 1, T0, "")
    assert other.digest_id != found.digest_id, "two of one millisecond are told apart"
    assert digest.lookback_key("message", "key") == "message|key"


def test_one_more_event() -> None:
    before = replace(opened(), closing="digest_full", opened_by="rate_limited", campaign="spring")
    told = replace(TOLD, collapse_key="score", expires_at_ms=T0 + 2 * DAY, appended_at_ms=T0 - 1)
    after = digest.add(before, told, KEYED, T0 + HOUR, T0 + 5, Bounds())
    (item,) = after.shown
    assert (item.event_id, item.created_at_ms, item.actor_id, item.data) == (
        "e1", T0, "bob", {"a": "x"},
    )  # fmt: skip
    assert after == replace(
        before,
        closes_at_ms=T0 + HOUR,
        last_at_ms=T0 + 5,
        appended_at_ms=T0 - 1,
        expires_at_ms=T0 + 2 * DAY,
        count=1,
        members=hash8("e1"),
        actors=hash8("bob"),
        items=after.items,
        size_bytes=sizes.item_bytes(item),
        member_facts=members.fact(hash8("bob"), T0 + 2 * DAY),
        collapse={"score": "e1"},
    )
    assert after == digest.add(before, told, KEYED, T0 + HOUR, T0 + 5, Bounds(), hash8("e1"))


def test_it_is_as_old_as_its_oldest_and_lives_as_long_as_its_last() -> None:
    earlier = replace(TOLD, appended_at_ms=T0 - 9, expires_at_ms=T0 + 9)
    for order in ((TOLD, earlier), (earlier, TOLD)):
        found = grown(KEYED, *order)
        assert (found.appended_at_ms, found.expires_at_ms) == (T0 - 9, T0 + DAY)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("bulk", "normal", "normal"),
        ("normal", "bulk", "normal"),
        ("normal", "critical", "critical"),
        ("critical", "bulk", "critical"),
    ],
)
def test_it_is_as_urgent_as_its_most_urgent(
    first: Priority, second: Priority, expected: Priority
) -> None:
    found = grown(KEYED, replace(TOLD, priority=first), replace(TOLD, priority=second))
    assert found.priority == expected


def test_actors_are_counted_up_to_their_bound() -> None:
    told = [replace(TOLD, actor_id=name) for name in ("a", "b", "", "a", "c", "b")]
    assert grown(KEYED, *told).actors == hash8("a") + hash8("b") + hash8("c")
    many = [replace(TOLD, actor_id=name) for name in "abcdefghijklmnopqrst"]
    for most in (4, 9, 19):
        assert len(grown(KEYED, *many, bounds=Bounds(actors_max=most)).actors) == most * 8
    few = grown(KEYED, *told, bounds=Bounds(actors_max=2))
    assert few.actors == hash8("a") + hash8("b")
    assert few.member_facts[4 * 16 : 4 * 16 + 8] == hash8("c"), "whose events can still leave"
    assert few.member_facts[2 * 16 : 2 * 16 + 8] == members.NOBODY


def test_what_release_1_stored_gets_no_facts() -> None:
    old = replace(opened(), members=hash8("e0"), count=1)
    after = digest.add(old, TOLD, KEYED, T0 + HOUR, T0, Bounds())
    assert (after.member_facts, after.count) == (b"", 2)


@given(
    st.lists(st.sampled_from(("3", "3.5", "-1", "none", "nan", "inf", "")), min_size=1),
    st.sampled_from(("last", "first", "top")),
    st.integers(1, 4),
)
@tries(150)
def test_what_is_shown_and_what_that_weighs(
    numbers: list[str], keep: Literal["last", "first", "top"], most: int
) -> None:
    rule = replace(KEYED, keep=keep, items_kept_max=most, top_by="data.points")
    told = [
        replace(TOLD, event_id=f"e{at}", data={"points": number, "text": "x" * at})
        for at, number in enumerate(numbers)
    ]
    found = grown(rule, *told)
    shown = [int(item.event_id[1:]) for item in found.shown]
    assert found.count == len(numbers)
    assert found.size_bytes == sum(map(sizes.item_bytes, found.shown))
    assert shown == sorted(shown), "in the order in which they came"
    places = range(len(numbers))
    value = {"3": 3.0, "3.5": 3.5, "-1": -1.0, "inf": 1e99}
    best = sorted(places, key=lambda at: (-value.get(numbers[at], -1e99), at))[:most]
    expected = {"last": list(places)[-most:], "first": list(places)[:most], "top": sorted(best)}
    assert shown == expected[keep]


def test_it_is_full_at_its_bound_of_events_or_bytes() -> None:
    base = opened()
    for count, size_bytes, full in ((6, 76, False), (7, 0, True), (8, 0, True), (0, 77, True),
                                    (0, 78, True)):  # fmt: skip
        found = replace(base, count=count, size_bytes=size_bytes)
        assert digest.is_full(found, KEYED) is full


def test_a_closed_digest_tells_of_all_its_events() -> None:
    told = [replace(TOLD, event_id=f"e{n}", data={"n": str(n)}, actor_id=a, collapse_key=f"k{n}",
                    campaign="spring")
            for n, a in enumerate(("bob", "eve", "bob"))]  # fmt: skip
    found = digest.to_notification(grown(replace(KEYED, items_kept_max=2), *told))
    assert (found.notification_id, found.event_id) == (opened(told[0]).digest_id, None)
    assert (found.category, found.priority, found.digest_key) == ("message", "normal", "key")
    assert (found.count, found.actors, len(found.items)) == (3, 2, 2)
    assert (found.data, found.campaign) == ({"n": "2"}, "spring")
    assert (found.created_at_ms, found.appended_at_ms, found.expires_at_ms) == (T0, T0, T0 + DAY)
    assert found.members == hash8("e0") + hash8("e1") + hash8("e2")
    assert len(found.member_facts) == 48
    assert found.collapse == {"k0": "e0", "k1": "e1", "k2": "e2"}
    assert digest.to_notification(opened()).data == {}
