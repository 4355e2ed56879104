"""Limits by themselves: what a plan asks, what is refused until when, and what is charged."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import rate_limit
from streams.core.model import Activity
from streams.core.policy import Bounds, Category, LimitRule, LimitScope
from streams.core.rate_limit import CHANNELS, check, consume, free_at, plan_of
from streams.core.terms import Refusal
from tests.core.build import (
    DAY,
    HOUR,
    MAIL,
    MINUTE,
    PHONE,
    SECOND,
    T0,
    TABLET,
    Person,
    a_policy,
)

EVERY = sorted(CHANNELS)


def a_rule(scope: LimitScope, name: str = "") -> LimitRule:
    return LimitRule(scope, 1, HOUR, "drop", name)


@pytest.mark.parametrize(
    ("scope", "name", "asked"),
    [
        ("recipient", "", "{}|recipient"),
        ("recipient", "message", "{}|recipient|message"),
        ("recipient", "like", ""),
        ("category", "", "{}|category:message"),
        ("category", "message", "{}|category:message"),
        ("category", "like", ""),
        ("category", "push", ""),
    ],
)
def test_what_is_asked_once_for_a_notification(scope: LimitScope, name: str, asked: str) -> None:
    rule = a_rule(scope, name)
    for plan, within in (
        (plan_of((rule,), (), "message"), ""),
        (plan_of((), (rule,), "message"), "message"),
    ):
        assert plan.notification == (((asked.format(within), rule),) if asked else ())
        assert plan.channels == {}
        assert plan.destinations == {}


@pytest.mark.parametrize(
    ("scope", "name", "key", "channels"),
    [
        ("recipient", "push", "{}|recipient|push", ["push"]),
        ("channel", "", "{}|channel:<channel>", EVERY),
        ("channel", "push", "{}|channel:push", ["push"]),
        ("channel", "message", "{}|channel:<channel>|message", EVERY),
        ("channel", "like", "", []),
    ],
)
def test_what_is_asked_for_a_channel(
    scope: LimitScope, name: str, key: str, channels: list[str]
) -> None:
    rule = a_rule(scope, name)
    for plan, within in (
        (plan_of((rule,), (), "message"), ""),
        (plan_of((), (rule,), "message"), "message"),
    ):
        expected = {
            channel: ((key.format(within).replace("<channel>", channel), rule),)
            for channel in channels
        }
        assert (plan.notification, plan.channels, plan.destinations) == ((), expected, {})


@pytest.mark.parametrize(
    ("name", "key", "channels"),
    [
        ("", "{}|", EVERY),
        ("push", "{}|", ["push"]),
        ("message", "{}|message", EVERY),
        ("like", "", []),
    ],
)
def test_what_is_asked_for_an_address(name: str, key: str, channels: list[str]) -> None:
    rule = a_rule("destination", name)
    for plan, within in (
        (plan_of((rule,), (), "message"), ""),
        (plan_of((), (rule,), "message"), "message"),
    ):
        expected = {channel: ((key.format(within), rule),) for channel in channels}
        assert (plan.notification, plan.channels, plan.destinations) == ((), {}, expected)
    (asked,) = rate_limit.for_destination((("|", rule),), "phone")
    assert asked == ("||destination:phone", rule)


def test_a_plan_asks_all_limits_in_their_order() -> None:
    first = a_rule("recipient")
    second, own = replace(first, count_max=9), replace(first, window_ms=DAY)
    plan = plan_of((first, second), (own,), "message")
    assert [rule for _, rule in plan.notification] == [first, second, own]


@pytest.mark.parametrize(
    ("count", "times", "expected"),
    [
        (0, (), T0 + HOUR),
        (-1, (T0,), T0 + HOUR),
        (1, (), None),
        (1, (T0 - HOUR,), None),
        (1, (T0 - HOUR + 1,), T0 + 1),
        (1, (T0 - 9, T0 - HOUR), None),
        (2, (T0,), None),
        (2, (T0 - 5, T0), T0 - 5 + HOUR),
        (2, (T0 - HOUR - 1, T0 - 5, T0), T0 - 5 + HOUR),
        (3, (T0 - HOUR - 1, T0 - 5, T0), None),
    ],
)
def test_when_the_next_one_fits(count: int, times: tuple[int, ...], expected: int | None) -> None:
    assert free_at(times, LimitRule("recipient", count, HOUR), T0) == expected


def test_the_refusal_that_lasts_longest_is_told() -> None:
    activity = Activity(sent={"a": (T0 - MINUTE,), "b": (T0 - SECOND,), "c": (T0 - HOUR,)})
    rule, other = LimitRule("recipient", 1, HOUR), LimitRule("category", 1, HOUR)
    asked = [("a", rule), ("b", rule), ("b", other), ("c", rule), ("new", rule)]
    found = Refusal(rule, T0 - SECOND + HOUR)
    assert check(activity, asked, T0) == found, "of two equal ones the first"
    assert check(activity, asked[::-1], T0) == replace(found, rule=other)
    assert check(activity, asked[3:], T0) is None
    assert found.label == "1 per 3600 s per recipient"


def test_what_is_charged_is_kept_as_long_as_its_longest_window() -> None:
    short, long = LimitRule("recipient", 3, MINUTE), LimitRule("recipient", 2, HOUR)
    activity = Activity(sent={"a": (T0,)}, seen=((1, b"x"),))
    assert consume(activity, [], T0 + 1, 9) is activity
    found = consume(activity, [("a", short), ("a", long)], T0 + HOUR - 1, 9)
    assert found.sent == {"a": (T0, T0 + HOUR - 1)}
    assert found.seen == activity.seen
    assert activity.sent == {"a": (T0,)}
    found = consume(activity, [("a", long), ("a", short)], T0 + HOUR, 9)
    assert found.sent == {"a": (T0 + HOUR,)}, "a window old: forgotten"
    found = consume(activity, [("a", short)], T0 + MINUTE - 1, 9)
    assert found.sent == {"a": (T0, T0 + MINUTE - 1)}
    one = consume(activity, [("a", LimitRule("recipient", 1, HOUR))], T0 + 1, 9)
    assert one.sent == {"a": (T0 + 1,)}
    none = consume(activity, [("a", LimitRule("recipient", 0, HOUR))], T0 + 1, 9)
    assert none.sent == {"a": (T0 + 1,)}, "the latest is always known"


def test_sends_stay_in_order_whatever_the_clock_does() -> None:
    rule = LimitRule("recipient", 3, HOUR)
    activity = Activity(sent={"a": (T0, T0 + 10)})
    assert consume(activity, [("a", rule)], T0 + 5, 9).sent["a"] == (T0, T0 + 5, T0 + 10)
    assert consume(activity, [("a", rule)], T0 + 10, 9).sent["a"] == (T0, T0 + 10, T0 + 10)
    full = Activity(sent={"a": (T0, T0 + 10, T0 + 20)})
    assert consume(full, [("a", rule)], T0 + 5, 9).sent["a"] == (T0 + 5, T0 + 10, T0 + 20)


def test_at_the_bound_the_longest_unused_goes_and_of_equals_the_first_by_name() -> None:
    rule = LimitRule("destination", 2, DAY)
    activity = Activity(sent={"c": (T0, T0 + 9), "b": (T0 + 5,), "a": (T0 + 5,)})
    assert sorted(consume(activity, [("d", rule)], T0 + 10, 4).sent) == ["a", "b", "c", "d"]
    assert sorted(consume(activity, [("d", rule)], T0 + 10, 3).sent) == ["b", "c", "d"]
    assert sorted(consume(activity, [("d", rule)], T0 + 10, 2).sent) == ["c", "d"]
    assert sorted(consume(activity, [("d", rule)], T0 + 10, 1).sent) == ["d"]


# --------------------------------------------------------------------------- through a decision


def limited(route: Any, *rules: LimitRule, **policy: Any) -> Person:
    categories = (Category("message", route=route), Category("alert", priority="critical"))
    return Person(a_policy(*categories, limits=rules, **policy), PHONE, TABLET, MAIL)


def test_of_several_full_channels_the_soonest_says_when() -> None:
    push, email = (
        LimitRule("channel", 1, HOUR, "defer", "push"),
        LimitRule("channel", 1, 2 * HOUR, "defer", "email"),
    )
    for route in ("first", "all"):
        for rules in ((push, email), (email, push)):
            ana = limited(route, *rules)
            ana.gets("e1")
            ana.gets("e2")
            ana.gets("e3")
            assert ana.entries[-1].until_ms == T0 + HOUR
    late = limited("all", replace(push, window_ms=3 * HOUR), email)
    late.gets("e1")
    late.gets("e2")
    assert late.entries[-1].until_ms == T0 + 2 * HOUR
    assert late.entries[-1].inputs["limit"] == "1 per 7200 s per channel"


def test_of_several_full_addresses_the_soonest_says_when() -> None:
    ana = limited("first", LimitRule("destination", 1, HOUR, "defer"))
    ana.removes(MAIL)
    ana.removes(TABLET)
    ana.gets("e1")
    ana.waits_for(MINUTE)
    ana.registers(replace(TABLET, registered_at_ms=ana.now_ms + 1))
    ana.gets("e2")
    assert [d.destination_id for d in ana.deliveries] == ["phone", "tablet"]
    ana.waits_for(MINUTE)
    ana.gets("e3")
    assert ana.entries[-1].until_ms == T0 + HOUR
    turned = limited("first", LimitRule("destination", 1, HOUR, "defer"))
    turned.removes(MAIL)
    turned.removes(PHONE)
    turned.gets("e1")
    turned.waits_for(MINUTE)
    turned.registers(replace(PHONE, registered_at_ms=1))
    turned.gets("e2")
    turned.gets("e3")
    assert turned.entries[-1].until_ms == T0 + HOUR


def test_an_address_without_room_is_left_out_and_the_others_are_told() -> None:
    ana = limited("first", LimitRule("destination", 1, HOUR, "drop"))
    ana.removes(TABLET)
    ana.gets("e1")
    ana.registers(replace(TABLET, registered_at_ms=T0 + 1))
    ana.gets("e2")
    ana.gets("e3")
    assert [(d.event_id, d.destination_id) for d in ana.deliveries] == [
        ("e1", "phone"), ("e2", "tablet"), ("e3", "mail"),
    ]  # fmt: skip
    assert [len(times) for times in ana.state.activity.sent.values()] == [1, 1, 1]


def test_the_first_channel_with_room_is_charged_and_no_other() -> None:
    ana = limited("first", LimitRule("channel", 2, HOUR, "drop"))
    ana.gets("e1")
    assert ana.state.activity.sent == {"|channel:push": (T0,)}
    every = limited("all", LimitRule("channel", 2, HOUR, "drop"), LimitRule("recipient", 9, HOUR))
    every.gets("e1")
    assert every.state.activity.sent == {
        "|recipient": (T0,), "|channel:push": (T0,), "|channel:email": (T0,),
    }  # fmt: skip


def test_a_critical_one_passes_full_channels_and_addresses_and_is_counted_there() -> None:
    rules = (LimitRule("channel", 1, HOUR, "drop"), LimitRule("destination", 1, HOUR, "drop"))
    ana = limited("first", *rules)
    ana.gets("a1", "alert")
    ana.now_ms += 1
    ana.gets("a2", "alert")
    assert ana.sent == [("a1", "push")] * 2 + [("a2", "push")] * 2
    assert set(ana.state.activity.sent.values()) == {(T0 + 1,)}


def test_only_so_many_scopes_are_remembered() -> None:
    bounds = Bounds(limit_scopes_max=2)
    ana = limited("all", LimitRule("destination", 1, HOUR, "drop"), bounds=bounds)
    ana.gets("e1")
    assert len(ana.state.activity.sent) == 2


def test_a_fallback_charges_the_channel_that_it_goes_to_and_not_the_recipient_again() -> None:
    ana = limited("first", LimitRule("recipient", 1, HOUR), LimitRule("channel", 1, HOUR))
    ana.removes(TABLET)
    ana.gets("e1")
    ana.now_ms += 1
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.sent == [("e1", "push"), ("e1", "email")]
    assert ana.state.activity.sent == {
        "|recipient": (T0,), "|channel:push": (T0,), "|channel:email": (T0 + 1,),
    }  # fmt: skip
