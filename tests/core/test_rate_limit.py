"""Rate limits: exact in every window of any alignment, for every scope, and what happens beyond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.model import Activity, Destination
from streams.core.policy import Category, LimitRule, LimitScope, OverLimit
from streams.core.rate_limit import check, consume, free_at, plan_of
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
from tests.core.profiles import tries

HOURLY = LimitRule("recipient", 2, HOUR)


def limited(*rules: LimitRule, destinations: tuple[Destination, ...] = (PHONE,)) -> Person:
    categories = (Category("message"), Category("like"), Category("alert", priority="critical"))
    return Person(a_policy(*categories, limits=rules), *destinations)


@given(
    st.lists(st.integers(0, 20 * MINUTE), min_size=1, max_size=60),
    st.integers(1, 4),
    st.sampled_from((MINUTE, 17 * SECOND, HOUR)),
)
@tries(150)
def test_no_window_of_any_alignment_has_more(gaps: list[int], count: int, window_ms: int) -> None:
    rule = LimitRule("recipient", count, window_ms)
    activity, now_ms = Activity(), T0
    sent: list[int] = []
    for gap in gaps:
        now_ms += gap
        refusal = check(activity, [("key", rule)], now_ms)
        in_window = sum(now_ms - window_ms < at <= now_ms for at in sent)
        assert (refusal is None) == (in_window < count), "refused exactly when it must be"
        if refusal is None:
            activity = consume(activity, [("key", rule)], now_ms, 10)
            sent.append(now_ms)
        else:
            assert refusal.free_at_ms > now_ms
            assert check(activity, [("key", rule)], refusal.free_at_ms) is None
            assert check(activity, [("key", rule)], refusal.free_at_ms - 1) is not None
    for start in sent:
        assert sum(start <= at < start + window_ms for at in sent) <= count


@pytest.mark.parametrize("scope", ["recipient", "category", "channel", "destination"])
@given(
    st.lists(
        st.tuples(st.integers(0, 40 * MINUTE), st.sampled_from(("message", "like"))),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 3),
    st.sampled_from(("drop", "defer", "digest")),
)
@tries(15)
def test_whatever_a_limit_counts_no_window_has_more(
    scope: LimitScope, events: list[tuple[int, str]], count: int, over: OverLimit
) -> None:
    """Through the whole decision: what waited for its slot is counted like the rest."""
    rule = LimitRule(scope, count, HOUR, over)
    categories = [Category(name, route="all", channels=("push", "email")) for name in
                  ("message", "like")]  # fmt: skip
    ana = Person(a_policy(*categories, limits=(rule,)), PHONE, TABLET, MAIL)
    for number, (gap_ms, category) in enumerate(events):
        ana.waits_for(gap_ms)
        ana.gets(f"e{number}", category)
    ana.waits_for(3 * DAY)
    counted: dict[str, dict[str, int]] = {}
    for one in ana.deliveries:
        name = {"recipient": "", "category": one.category, "channel": one.channel,
                "destination": one.destination_id}[scope]  # fmt: skip
        told = one.delivery_id if scope == "destination" else one.notification_id
        counted.setdefault(name, {})[told] = one.decided_at_ms
    assert counted, "nothing was ever sent"
    for sends in counted.values():
        for start in sends.values():
            assert sum(start <= at < start + HOUR for at in sends.values()) <= count


def test_a_deferred_event_goes_when_a_slot_is_free() -> None:
    ana = limited(HOURLY)
    ana.gets("e1")
    ana.waits_for(10 * MINUTE)
    ana.gets("e2")
    ana.gets("e3")
    assert ana.verdicts[-1] == "held rate_limited"
    assert ana.entries[-1].until_ms == T0 + HOUR
    assert ana.entries[-1].inputs["limit"] == "2 per 3600 s per recipient"
    ana.waits(T0 + HOUR)
    assert ana.sent[-1] == ("e3", "push")


def test_a_refused_send_uses_nothing_up() -> None:
    per_category = LimitRule("category", 1, DAY, "drop", "like")
    ana = limited(LimitRule("recipient", 2, DAY, "drop"), per_category)
    for name in ("l1", "l2", "l3", "l4"):
        ana.gets(name, "like")
    ana.gets("e1")
    assert ana.sent == [("l1", "push"), ("e1", "push")]


def test_drop_and_digest_beyond_the_limit() -> None:
    ana = limited(LimitRule("recipient", 1, HOUR, "drop"))
    ana.gets("e1")
    ana.gets("e2")
    assert ana.verdicts[-1] == "dropped rate_limited"
    gathered = limited(LimitRule("recipient", 1, HOUR, "digest"))
    for name in ("e1", "e2", "e3"):
        gathered.gets(name)
    assert gathered.verdicts[1:] == ["digested digested"] * 2
    gathered.waits(T0 + HOUR)
    assert gathered.sent == [("e1", "push"), ("digest", "push")]
    assert gathered.deliveries[-1].count == 2


def test_the_more_urgent_takes_the_slot_then_the_older() -> None:
    ana = limited(LimitRule("recipient", 1, HOUR))
    ana.gets("e0")
    ana.gets("b1", priority="bulk")
    ana.waits_for(MINUTE)
    ana.gets("n1")
    ana.waits_for(MINUTE)
    ana.gets("n2")
    ana.waits_for(5 * HOUR)
    assert [event for event, _ in ana.sent] == ["e0", "n1", "n2", "b1"]


def test_nobody_loses_their_place_by_waiting_again() -> None:
    ana = limited(LimitRule("recipient", 1, HOUR))
    ana.gets("e0")
    for number in range(1, 8):
        ana.waits_for(SECOND)
        ana.gets(f"e{number}")
    ana.waits_for(9 * HOUR)
    assert [event for event, _ in ana.sent] == [f"e{number}" for number in range(8)]


def test_critical_counts_but_passes() -> None:
    ana = limited(LimitRule("recipient", 2, HOUR))
    for number in range(4):
        ana.gets(f"a{number}", "alert")
        ana.waits_for(MINUTE)
    ana.gets("e1")
    assert len(ana.sent) == 4
    assert ana.entries[-1].until_ms == T0 + 2 * MINUTE + HOUR


def test_scopes_count_apart() -> None:
    channel = limited(LimitRule("channel", 1, HOUR, "drop"), destinations=(PHONE, MAIL))
    for name in ("e1", "e2", "e3"):
        channel.gets(name)
    assert channel.sent == [("e1", "push"), ("e2", "email")]
    category = limited(LimitRule("category", 1, HOUR, "drop"))
    category.gets("e1")
    category.gets("e2")
    category.gets("l1", "like")
    assert category.sent == [("e1", "push"), ("l1", "push")]
    destination = limited(LimitRule("destination", 1, HOUR, "drop"), destinations=(PHONE,))
    destination.gets("e1")
    destination.registers(TABLET)
    destination.gets("e2")
    assert [d.destination_id for d in destination.deliveries] == ["phone", "tablet"]


def test_a_named_limit_counts_what_has_that_name_alone() -> None:
    likes = limited(LimitRule("recipient", 1, HOUR, "drop", "like"), HOURLY)
    likes.gets("e1")
    likes.gets("l1", "like")
    assert likes.sent == [("e1", "push"), ("l1", "push")], "a message is no like"
    push = limited(LimitRule("recipient", 1, HOUR, "drop", "push"), destinations=(PHONE, MAIL))
    push.gets("e1")
    push.gets("e2")
    assert push.sent == [("e1", "push"), ("e2", "email")]


def test_a_limit_declared_in_a_category_counts_that_category_alone() -> None:
    mine = Category("message", limits=(LimitRule("recipient", 1, HOUR, "drop"),))
    ana = Person(a_policy(mine, Category("like")), PHONE)
    ana.gets("l1", "like")
    ana.gets("e1")
    ana.gets("e2")
    assert ana.sent == [("l1", "push"), ("e1", "push")]


def test_with_all_every_channel_with_room_is_used() -> None:
    both = Category("message", route="all", limits=(LimitRule("channel", 1, HOUR, "drop", "push"),))
    ana = Person(a_policy(both), PHONE, MAIL)
    ana.gets("e1")
    ana.gets("e2")
    assert ana.sent == [("e1", "push"), ("e1", "email"), ("e2", "email")]


def test_a_notification_is_counted_once_however_many_messages_it_makes() -> None:
    every = Category("message", route="all")
    ana = Person(a_policy(every, limits=(HOURLY,)), PHONE, TABLET, MAIL)
    ana.gets("e1")
    ana.gets("e2")
    ana.gets("e3")
    assert [event for event, _ in ana.sent] == ["e1"] * 3 + ["e2"] * 3


def test_a_limit_of_nothing_never_lets_anything_go() -> None:
    assert free_at((), LimitRule("recipient", 0, HOUR), T0) == T0 + HOUR
    assert free_at((), LimitRule("recipient", 1, HOUR), T0) is None


def test_each_key_keeps_no_more_than_its_largest_limit_needs() -> None:
    rules = [("a", LimitRule("recipient", 3, HOUR)), ("a", LimitRule("recipient", 5, MINUTE))]
    activity = Activity()
    for number in range(20):
        activity = consume(activity, rules, T0 + number, 10)
    assert activity.sent["a"] == tuple(range(T0 + 15, T0 + 20))
    activity = consume(activity, rules, T0 + 2 * HOUR, 10)
    assert activity.sent["a"] == (T0 + 2 * HOUR,)
    earlier = consume(activity, rules, T0 + HOUR + 1, 10)
    assert earlier.sent["a"] == (T0 + HOUR + 1, T0 + 2 * HOUR), "in order, whatever comes"


def test_the_longest_unused_scope_goes_first() -> None:
    activity = Activity()
    for number in range(5):
        rule = LimitRule("destination", 1, DAY)
        activity = consume(activity, [(f"k{number}", rule)], T0 + number, 3)
    assert sorted(activity.sent) == ["k2", "k3", "k4"]


def test_a_plan_is_empty_without_limits() -> None:
    plan = plan_of((), (), "message")
    assert (plan.notification, plan.channels, plan.destinations) == ((), {}, {})
