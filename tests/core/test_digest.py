"""Digests: the four modes, what they keep, when they close, and who leaves them."""

from __future__ import annotations

from streams.core.digest import KEY_CHARS_MAX
from streams.core.policy import Category, DigestRule
from tests.core.build import DAY, HOUR, MINUTE, PHONE, SECOND, T0, Person, a_policy, at


def with_digest(rule: DigestRule, **category: object) -> Person:
    message = Category("message", digest=rule, **category)  # type: ignore[arg-type]
    return Person(a_policy(message), PHONE)


def test_window_closes_a_window_after_its_first_event() -> None:
    ana = with_digest(DigestRule("window", window_ms=HOUR))
    ana.gets("e1")
    ana.waits_for(59 * MINUTE)
    ana.gets("e2")
    assert [entry.until_ms for entry in ana.entries] == [T0 + HOUR] * 2
    ana.waits(T0 + HOUR - 1)
    assert not ana.sent
    ana.waits(T0 + HOUR)
    (digest,) = ana.deliveries
    assert (digest.count, digest.event_id, digest.digest_key) == (2, None, "")
    assert [item.event_id for item in digest.items] == ["e1", "e2"]
    assert ana.entries[0].digest_id == digest.notification_id
    assert ana.verdicts[2:] == ["digest_closed digest_due", "delivering digest_sent"]
    ana.waits_for(DAY)
    assert len(ana.deliveries) == 1, "an empty window sends nothing"


def test_lookback_sends_the_first_and_gathers_the_rest() -> None:
    ana = with_digest(DigestRule("lookback", window_ms=HOUR))
    ana.gets("e1")
    ana.waits_for(10 * MINUTE)
    ana.gets("e2")
    ana.gets("e3")
    assert ana.sent == [("e1", "push")]
    ana.waits(T0 + HOUR)
    assert ana.sent == [("e1", "push"), ("digest", "push")]
    ana.gets("e4")
    assert ana.verdicts[-1] == "digested digested", "the digest was a send as well"
    ana.waits(T0 + 4 * HOUR)
    ana.gets("e5")
    assert ana.sent[-1] == ("e5", "push")


def test_a_lookback_ends_exactly_after_its_window() -> None:
    early, on_time = (with_digest(DigestRule("lookback", window_ms=HOUR)) for _ in range(2))
    for ana, wait_ms in ((early, HOUR - 1), (on_time, HOUR)):
        ana.gets("e1")
        ana.waits_for(wait_ms)
        ana.gets("e2")
    assert early.verdicts[-1] == "digested digested"
    assert on_time.verdicts[-1] == "delivering routed"


def test_lookbacks_of_long_windows_outlive_sends_of_short_ones() -> None:
    short = Category("short", digest=DigestRule("lookback", window_ms=MINUTE))
    long = Category("long", digest=DigestRule("lookback", window_ms=DAY))
    policy = a_policy(short, long)
    ana = Person(policy, PHONE)
    ana.gets("l1", "long")
    ana.waits_for(2 * HOUR)
    ana.gets("s1", "short")
    ana.gets("l2", "long")
    assert ana.verdicts[-1] == "digested digested"


def test_debounce_closes_after_a_gap_or_at_its_age() -> None:
    rule = DigestRule("debounce", window_ms=10 * MINUTE, age_ms_max=25 * MINUTE)
    ana = with_digest(rule)
    for number in range(4):
        ana.gets(f"e{number}")
        ana.waits_for(8 * MINUTE)
    assert [d.count for d in ana.deliveries] == [4]
    assert ana.deliveries[0].decided_at_ms == T0 + 25 * MINUTE
    ana.gets("e9")
    ana.waits_for(10 * MINUTE)
    assert [d.count for d in ana.deliveries] == [4, 1]


def test_calendar_closes_at_local_times() -> None:
    daily = DigestRule("calendar", times=("08:00", "18:30"))
    ana = Person(
        a_policy(Category("message", digest=daily)), PHONE, now_ms=at("2026-03-10 09:00"),
        zone="Asia/Kathmandu",
    )  # fmt: skip
    ana.gets("e1")
    assert ana.entries[0].until_ms == at("2026-03-10 18:30", "Asia/Kathmandu")
    ana.waits_for(DAY)
    ana.gets("e2")
    ana.prefers(zone="Asia/Tokyo")
    ana.waits_for(DAY)
    assert ana.deliveries[-1].decided_at_ms == at("2026-03-11 18:30", "Asia/Tokyo")


def test_calendar_digests_are_spread() -> None:
    daily = Category("message", digest=DigestRule("calendar", times=("18:00",)))
    ana = Person(a_policy(daily, release_jitter_ms=10 * MINUTE), PHONE)
    ana.gets("e1")
    until_ms = ana.entries[0].until_ms
    assert until_ms is not None
    assert at("2026-03-01 18:00") < until_ms < at("2026-03-01 18:10")
    ana = Person(a_policy(daily, release_jitter_ms=10 * MINUTE, release_lead_ms=2 * MINUTE), PHONE)
    ana.gets("e1")
    assert ana.entries[0].until_ms == until_ms + 2 * MINUTE


def test_the_recipient_chooses_how_to_be_told() -> None:
    ana = with_digest(DigestRule("window", window_ms=5 * HOUR))
    ana.prefers(digests={"message": "immediate"})
    ana.gets("e1")
    assert ana.sent == [("e1", "push")]
    ana.prefers(digests={"message": "hourly"})
    ana.gets("e2")
    assert ana.entries[-1].until_ms == T0 + HOUR
    ana.prefers(digests={"message": "daily@18:00"})
    ana.waits(at("2026-03-01 17:59"))
    assert ana.sent == [("e1", "push")]
    ana.waits(at("2026-03-01 18:00"))
    assert ana.sent[-1] == ("digest", "push")
    plain = Person(a_policy(), PHONE, digests={"message": "hourly"})
    plain.gets("e1")
    assert plain.verdicts == ["digested digested"]


def test_choosing_to_be_told_at_once_closes_what_is_open() -> None:
    ana = with_digest(DigestRule("window", window_ms=5 * HOUR))
    ana.gets("e1")
    ana.prefers(digests={"message": "immediate"})
    assert ana.verdicts[1:] == ["digest_closed digest_choice", "delivering digest_sent"]


def test_keys_keep_digests_apart() -> None:
    ana = with_digest(DigestRule("window", key=("data.thread", "actor_id", "collapse_key")))
    ana.gets("e1", data={"thread": "t1"}, actor_id="bob")
    ana.gets("e2", data={"thread": "t1"}, actor_id="eve")
    ana.gets("e3", data={"thread": "t1"}, actor_id="bob")
    ana.waits_for(HOUR)
    assert [(d.digest_key, d.count) for d in ana.deliveries] == [("t1/bob/", 2), ("t1/eve/", 1)]


def test_a_long_key_is_hashed() -> None:
    ana = with_digest(DigestRule("window", key=("data.thread",)))
    ana.gets("e1", data={"thread": "x" * KEY_CHARS_MAX})
    ana.gets("e2", data={"thread": "x" * (KEY_CHARS_MAX + 1)})
    keys = [digest.key for digest in ana.state.waiting.digests]
    assert [len(key) for key in keys] == [KEY_CHARS_MAX, 32]


def test_campaigns_do_not_mix_so_that_a_kill_switch_stops_one() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1", campaign="spring")
    ana.gets("e2", campaign="autumn")
    ana.policy = a_policy(*ana.policy.categories.values(), kills=frozenset({"campaign:spring"}))
    ana.waits_for(HOUR)
    assert [d.campaign for d in ana.deliveries] == ["autumn"]
    assert "dropped killed" in ana.verdicts


def points(number: str) -> dict[str, str]:
    return {"points": number}


def test_what_is_kept_last_first_or_top() -> None:
    for keep, expected in (("last", ["e3", "e4"]), ("first", ["e0", "e1"]), ("top", ["e1", "e3"])):
        rule = DigestRule("window", keep=keep, items_kept_max=2, top_by="data.points")  # type: ignore[arg-type]
        ana = with_digest(rule)
        for index, value in enumerate(("3", "20", "none", "7.5", "nan")):
            ana.gets(f"e{index}", data=points(value))
        ana.waits_for(HOUR)
        assert [item.event_id for item in ana.deliveries[0].items] == expected
        assert ana.deliveries[0].count == 5


def test_of_equals_the_earlier_stays_on_top() -> None:
    ana = with_digest(DigestRule("window", keep="top", items_kept_max=1, top_by="data.points"))
    for name in ("e1", "e2"):
        ana.gets(name, data=points("5"))
    ana.waits_for(HOUR)
    assert [item.event_id for item in ana.deliveries[0].items] == ["e1"]


def test_counts_are_exact_and_actors_distinct() -> None:
    ana = with_digest(DigestRule("window", items_kept_max=2))
    for number in range(20):
        ana.gets(f"e{number}", actor_id=("", "bob", "eve")[number % 3])
    ana.waits_for(HOUR)
    assert (ana.deliveries[0].count, ana.deliveries[0].actors) == (20, 2)


def test_a_full_digest_closes_at_once_and_a_new_one_opens_in_the_same_millisecond() -> None:
    ana = with_digest(DigestRule("window", items_max=2))
    for number in range(5):
        ana.gets(f"e{number}")
    assert [d.count for d in ana.deliveries] == [2, 2]
    assert len({d.notification_id for d in ana.deliveries}) == 2
    assert "digest_closed digest_full" in ana.verdicts
    assert len(ana.state.waiting.digests) == 1


def test_a_heavy_digest_closes_at_once() -> None:
    ana = with_digest(DigestRule("window", bytes_max=100))
    ana.gets("e1", data={"text": "x" * 50})
    assert not ana.sent
    ana.gets("e2", data={"text": "x" * 50})
    assert ana.sent == [("digest", "push")]


def test_a_cancelled_event_leaves() -> None:
    ana = with_digest(DigestRule("window", items_kept_max=2))
    for name, actor in (("e1", "bob"), ("e2", "eve"), ("e3", "bob")):
        ana.gets(name, actor_id=actor)
    ana.cancels("e2")
    assert ana.verdicts[-1] == "cancelled cancelled"
    assert ana.entries[-1].event_id == "e2"
    ana.cancels("e1")  # No longer among the shown, and still known.
    ana.waits_for(HOUR)
    (digest,) = ana.deliveries
    assert (digest.count, digest.actors) == (1, 1)
    assert [item.event_id for item in digest.items] == ["e3"]


def test_an_emptied_digest_sends_nothing() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1")
    ana.cancels("e1")
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "digest_closed digest_empty"
    assert not ana.sent


def test_a_newer_event_with_the_collapse_key_takes_the_place_of_the_older() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1", collapse_key="score")
    ana.gets("e2")
    ana.gets("e3", collapse_key="score")
    assert ana.verdicts[2:] == ["cancelled collapsed", "digested digested"]
    ana.waits_for(HOUR)
    assert [item.event_id for item in ana.deliveries[0].items] == ["e2", "e3"]


def test_a_closed_digest_that_is_held_can_still_be_left() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1", actor_id="bob")
    ana.gets("e2", actor_id="eve")
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "held snoozed"
    ana.cancels("e1")
    ana.waits_for(HOUR)
    assert (ana.deliveries[0].count, ana.deliveries[0].actors) == (1, 1)
    other = with_digest(DigestRule("window"))
    other.gets("e1")
    other.prefers(snooze_until_ms=T0 + 2 * HOUR)
    other.waits_for(HOUR)
    other.cancels("e1")
    assert other.verdicts[-2:] == ["cancelled cancelled", "cancelled digest_empty"]
    assert other.due_ms is None


def test_who_opts_out_while_one_is_open_gets_nothing() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1")
    ana.prefers(categories={"message": False})
    ana.waits_for(HOUR)
    assert ana.verdicts[-2:] == ["digest_closed digest_due", "suppressed opted_out"]


def test_an_event_that_would_expire_first_goes_alone() -> None:
    ana = with_digest(DigestRule("window", window_ms=HOUR))
    ana.gets("e1", expires_at_ms=T0 + HOUR)
    ana.gets("e2", expires_at_ms=T0 + HOUR + 1)
    assert ana.verdicts == ["delivering routed", "digested digested"]


def test_no_later_event_makes_an_earlier_one_wait_beyond_its_expiry() -> None:
    ana = with_digest(DigestRule("debounce", window_ms=10 * MINUTE))
    ana.gets("e1", expires_at_ms=T0 + 12 * MINUTE)
    ana.waits_for(9 * MINUTE)
    ana.gets("e2")
    ana.waits(T0 + 12 * MINUTE)
    assert [d.count for d in ana.deliveries] == [2]
    assert ana.deliveries[0].decided_at_ms == T0 + 12 * MINUTE - 1


def test_a_held_digest_does_not_tell_of_what_expired() -> None:
    ana = with_digest(DigestRule("window", window_ms=MINUTE))
    ana.gets("e1", expires_at_ms=T0 + HOUR)
    ana.gets("e2", expires_at_ms=T0 + 5 * HOUR)
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits_for(3 * HOUR)
    assert [item.event_id for item in ana.deliveries[0].items] == ["e2"]
    assert ana.deliveries[0].count == 1
    assert ana.deliveries[0].expires_at_ms == T0 + 5 * HOUR


def test_the_most_urgent_member_decides_the_priority() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1", priority="bulk")
    ana.gets("e2")
    ana.waits_for(HOUR)
    assert ana.deliveries[0].priority == "normal"


def test_an_event_from_long_ago_is_gathered_like_any_other() -> None:
    ana = with_digest(DigestRule("window"))
    ana.gets("e1", created_at_ms=T0 - 5 * DAY)
    ana.gets("e2", created_at_ms=T0 + SECOND)
    ana.waits_for(HOUR)
    assert ana.deliveries[0].count == 2
