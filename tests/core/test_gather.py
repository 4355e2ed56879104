"""What waits instead of going out, at its bounds: digests, lookbacks, nights and used-up limits."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import sizes
from streams.core.model import QuietWindow
from streams.core.policy import Bounds, Category, DigestMode, DigestRule
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy, at

NIGHT = (QuietWindow(22 * 60, 8 * 60),)
EVENING, MORNING = at("2026-03-10 23:00"), at("2026-03-11 08:00")
LOOKBACK = DigestRule("lookback", window_ms=HOUR)


def with_digest(rule: DigestRule | None, bounds: Bounds | None = None, **category: Any) -> Person:
    message = Category("message", digest=rule, **category)
    return Person(a_policy(message, bounds=bounds or Bounds()), PHONE)


def open_ones(ana: Person) -> list[tuple[str, int, int]]:
    """(key, count, closes after T0) of each open digest."""
    return [(d.key, d.count, d.closes_at_ms - T0) for d in ana.state.waiting.digests]


# ------------------------------------------------------------------------------------- by a rule


def test_what_the_entry_says_of_gathering() -> None:
    ana = with_digest(DigestRule("window", window_ms=HOUR, key=("actor_id",)))
    ana.gets("e1", actor_id="bob")
    (entry,) = ana.entries
    assert entry.inputs == {"mode": "window", "key": "bob", "because": "digest rule"}
    assert entry.until_ms == T0 + HOUR
    assert entry.digest_id == ana.state.waiting.digests[0].digest_id
    assert entry.count == 1


def test_digests_are_kept_in_the_order_of_their_opening() -> None:
    ana = with_digest(DigestRule("window", key=("actor_id",)))
    for name in ("b", "a", "c", "a"):
        ana.gets(f"{name}{ana.now_ms}", actor_id=name)
        ana.now_ms += 1
    assert open_ones(ana) == [("b", 1, HOUR), ("a", 2, HOUR + 1), ("c", 1, HOUR + 2)]


@pytest.mark.parametrize("window_ms", [0, -5, -2 * T0])
def test_a_window_of_nothing_closes_in_the_next_moment(window_ms: int) -> None:
    ana = with_digest(DigestRule("window", window_ms=window_ms))
    ana.gets("e1")
    assert open_ones(ana) == [("", 1, 1)]
    odd = with_digest(DigestRule("window", window_ms=window_ms))
    odd.now_ms += 1
    odd.gets("e1")
    assert open_ones(odd) == [("", 1, 2)]


def test_campaigns_and_categories_do_not_mix() -> None:
    rule = DigestRule("window")
    both = (Category("message", digest=rule), Category("like", digest=rule))
    ana = Person(a_policy(*both), PHONE)
    for number, (category, campaign) in enumerate(
        (("message", None), ("like", None), ("message", "a"), ("message", "z"), ("like", "a"))
    ):
        ana.gets(f"e{number}", category, campaign=campaign)
        ana.gets(f"f{number}", category, campaign=campaign)
    assert [(d.category, d.campaign, d.count) for d in ana.state.waiting.digests] == [
        ("message", None, 2), ("like", None, 2), ("message", "a", 2), ("message", "z", 2),
        ("like", "a", 2),
    ]  # fmt: skip


def test_a_lookback_opens_until_the_window_of_the_last_send_ends() -> None:
    ana = with_digest(LOOKBACK)
    ana.gets("e1")
    ana.waits_for(10 * MINUTE)
    ana.gets("e2")
    ana.waits_for(10 * MINUTE)
    ana.gets("e3")
    assert open_ones(ana) == [("", 2, HOUR)]
    assert ana.state.waiting.lookbacks == {"message|": T0}


def test_a_debounce_moves_with_every_event_and_never_back() -> None:
    ana = with_digest(DigestRule("debounce", window_ms=HOUR, age_ms_max=3 * HOUR))
    for closes_after_ms in (HOUR, HOUR + 50 * MINUTE, 2 * HOUR + 40 * MINUTE, 3 * HOUR):
        ana.gets(f"e{closes_after_ms}")
        assert open_ones(ana)[0][2] == closes_after_ms
        ana.waits_for(50 * MINUTE)
    ana.policy = a_policy(Category("message", digest=DigestRule("debounce", window_ms=MINUTE)))
    later = with_digest(DigestRule("debounce", window_ms=HOUR))
    later.gets("e1")
    later.policy = ana.policy
    later.gets("e2")
    assert open_ones(later) == [("", 2, HOUR)]


@pytest.mark.parametrize(
    ("expires_after_ms", "gathered"), [(HOUR - 1, False), (HOUR, False), (HOUR + 1, True)]
)
def test_what_would_expire_first_goes_alone(expires_after_ms: int, gathered: bool) -> None:
    ana = with_digest(DigestRule("window", window_ms=HOUR))
    ana.gets("e1", expires_at_ms=T0 + expires_after_ms)
    assert ana.verdicts == ["digested digested" if gathered else "delivering routed"]
    beside = with_digest(DigestRule("window", window_ms=HOUR))
    beside.gets("e0")
    beside.gets("e1", expires_at_ms=T0 + expires_after_ms)
    assert open_ones(beside) == [("", 1 + gathered, HOUR)]


def test_a_digest_never_stays_open_until_the_first_of_its_events_expires() -> None:
    for first_ms, closes_ms in ((HOUR + 1, HOUR), (HOUR + 9, HOUR + 8), (90 * MINUTE, None)):
        ana = with_digest(DigestRule("debounce", window_ms=HOUR))
        ana.gets("e1", expires_at_ms=T0 + first_ms)
        ana.gets("e2")
        ana.now_ms += 10 * MINUTE
        ana.gets("e3")
        expected = HOUR + 10 * MINUTE if closes_ms is None else closes_ms
        assert open_ones(ana) == [("", 3, expected)]


def test_a_full_one_closes_now_and_a_heavy_one_too() -> None:
    for rule in (DigestRule("window", items_max=2), DigestRule("window", bytes_max=150)):
        ana = with_digest(rule)
        ana.prefers(snooze_until_ms=0, locale="pt")
        ana.gets("e1", data={"text": "x" * 70})
        assert open_ones(ana) == [("", 1, HOUR)]
        ana.gets("e2", data={"text": "x" * 70})
        assert ana.entries[1].until_ms == T0
        assert ana.verdicts[2:] == ["digest_closed digest_full", "delivering digest_sent"]


def test_a_digest_closes_when_what_it_gained_has_no_room() -> None:
    for room, crowded in ((2_000, False), (600, True)):
        ana = with_digest(DigestRule("window"), Bounds(waiting_bytes_max=room))
        ana.gets("e1", data={"text": "x" * 200})
        ana.gets("e2", data={"text": "x" * 200})
        assert ("digest_closed digest_crowded" in ana.verdicts) is crowded


def test_room_is_asked_for_what_is_gained_only() -> None:
    ana = with_digest(DigestRule("window"), Bounds(waiting_bytes_max=100_000))
    ana.gets("e1", data={"text": "x" * 10_000})
    (opened,) = ana.state.waiting.digests
    now = sizes.waiting_bytes(ana.state.waiting)
    gained = len("e2") + sizes.ITEM_BYTES + 8 + 16
    for bound, crowded in ((now + gained, False), (now + gained - 1, True)):
        one = with_digest(DigestRule("window"), Bounds(waiting_bytes_max=bound))
        one.state = replace(one.state, waiting=replace(one.state.waiting, digests=(opened,)))
        one.gets("e2")
        assert ("digest_closed digest_crowded" in one.verdicts) is crowded


def test_at_the_bound_of_digests_the_one_that_closes_first_makes_room() -> None:
    rule = DigestRule("debounce", window_ms=HOUR, key=("actor_id",))
    ana = with_digest(rule, Bounds(digests_max=2))
    ana.gets("a1", actor_id="a")
    ana.now_ms += 1
    ana.gets("b1", actor_id="b")
    ana.now_ms += 1
    ana.gets("a2", actor_id="a")
    assert [key for key, _, _ in open_ones(ana)] == ["a", "b"]
    ana.gets("c1", actor_id="c")
    assert [key for key, _, _ in open_ones(ana)] == ["a", "c"]
    assert ana.deliveries[-1].digest_key == "b"
    shrunk = with_digest(replace(rule, mode="window"))
    for name in ("a", "b", "c"):
        shrunk.gets(f"{name}1", actor_id=name)
        shrunk.now_ms += 1
    shrunk.policy = a_policy(*shrunk.policy.categories.values(), bounds=Bounds(digests_max=2))
    shrunk.gets("d1", actor_id="d")
    assert [key for key, _, _ in open_ones(shrunk)] == ["b", "c", "d"]


# ------------------------------------------------------------------------------------- lookbacks


@pytest.mark.parametrize("rule", [None, DigestRule("window", window_ms=1), LOOKBACK])
def test_only_a_lookback_remembers_its_sends(rule: DigestRule | None) -> None:
    ana = with_digest(rule)
    ana.gets("e1")
    ana.waits_for(MINUTE)
    expected = {"message|": T0} if rule is LOOKBACK else {}
    assert ana.state.waiting.lookbacks == expected


@pytest.mark.parametrize("mode", ["window", "debounce", "calendar"])
def test_what_goes_alone_past_another_rule_starts_no_lookback(mode: DigestMode) -> None:
    ana = with_digest(DigestRule(mode, window_ms=HOUR))
    ana.gets("e1", expires_at_ms=T0 + MINUTE)
    assert ana.sent == [("e1", "push")]
    assert ana.state.waiting.lookbacks == {}


def test_a_critical_one_starts_no_lookback() -> None:
    ana = with_digest(LOOKBACK, priority="critical")
    ana.gets("e1")
    assert ana.state.waiting.lookbacks == {}
    ana.gets("e2", priority="normal")
    assert ana.state.waiting.lookbacks == {"message|": T0}
    digested = with_digest(DigestRule("window"), priority="critical")
    digested.gets("e1")
    assert digested.state.waiting.lookbacks == {}


def test_a_fallback_and_a_later_step_start_no_lookback() -> None:
    fallback = Person(a_policy(Category("message", digest=LOOKBACK)), PHONE, MAIL)
    fallback.gets("e1")
    fallback.now_ms += MINUTE
    fallback.answers(fallback.deliveries[0], "unregistered")
    assert fallback.state.waiting.lookbacks == {"message|": T0}
    urgent = Category("message", digest=LOOKBACK, route="escalate", escalate_after_ms=MINUTE)
    step = Person(a_policy(urgent), PHONE, MAIL)
    step.gets("e1")
    step.waits_for(MINUTE)
    assert len(step.sent) == 2
    assert step.state.waiting.lookbacks == {"message|": T0}


def test_at_the_bound_of_lookbacks_the_ended_go_and_else_the_oldest() -> None:
    short = Category("short", digest=DigestRule("lookback", window_ms=HOUR, key=("actor_id",)))
    long = Category("long", digest=DigestRule("lookback", window_ms=DAY, key=("actor_id",)))
    window = Category("window", digest=DigestRule("window"))
    policy = a_policy(short, long, window, bounds=Bounds(lookbacks_max=3))

    def begun() -> Person:
        ana = Person(policy, PHONE)
        for category, actor in (("long", "a"), ("short", "b"), ("short", "c")):
            ana.gets(f"{category}-{actor}", category, actor_id=actor)
            ana.now_ms += 1
        return ana

    def known(ana: Person) -> str:
        return "".join(sorted(name[-1] for name in ana.state.waiting.lookbacks))

    ana = begun()
    assert known(ana) == "abc"
    ana.waits_for(2 * HOUR)
    ana.gets("e3", "short", actor_id="b")
    assert known(ana) == "abc", "one that is known needs no room"
    ana = begun()
    ana.gets("e4", "long", actor_id="d")
    assert known(ana) == "bcd", "none has ended: the oldest goes"
    ana = begun()
    ana.now_ms = T0 + 1 + HOUR
    ana.gets("e4", "long", actor_id="d")
    assert known(ana) == "acd", "b ended just now"
    ana.now_ms = T0 + 2 + HOUR
    ana.gets("e5", "short", actor_id="a")
    assert known(ana) == "aad", "c ended, and a is long"
    ana = begun()
    ana.now_ms = T0 + 5 * HOUR
    ana.gets("e4", "long", actor_id="d")
    assert known(ana) == "ad", "both have ended long ago"
    ana = begun()
    ana.policy = a_policy(short, replace(long, digest=None), window, Category("other"),
                          bounds=Bounds(lookbacks_max=3))  # fmt: skip
    ana.gets("e6", "short", actor_id="e")
    assert known(ana) == "bce", "its category looks back no more"
    ana = begun()
    ana.policy = a_policy(short, replace(long, digest=DigestRule("window", window_ms=DAY)),
                          bounds=Bounds(lookbacks_max=3))  # fmt: skip
    ana.gets("e6", "short", actor_id="e")
    assert known(ana) == "bce", "nor does it with another rule"


def test_a_bound_that_shrank_is_kept_to_with_the_next_one() -> None:
    """One goes for each that comes: never more than there were."""
    rule = replace(LOOKBACK, key=("actor_id",))
    ana = with_digest(rule)
    for name in ("a", "b", "c"):
        ana.gets(f"e-{name}", actor_id=name)
        ana.now_ms += 1
    ana.policy = a_policy(Category("message", digest=rule), bounds=Bounds(lookbacks_max=2))
    ana.gets("e-d", actor_id="d")
    assert sorted(ana.state.waiting.lookbacks) == ["message|b", "message|c", "message|d"]


def test_of_lookbacks_equally_old_the_first_by_name_goes() -> None:
    ana = with_digest(replace(LOOKBACK, key=("actor_id",)), Bounds(lookbacks_max=2))
    for name in ("b", "a", "c"):
        ana.gets(f"e-{name}", actor_id=name)
    assert sorted(ana.state.waiting.lookbacks) == ["message|b", "message|c"]
