"""Nights and used-up limits that gather, hold, downgrade or drop; and what leaves a held digest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.model import QuietWindow
from streams.core.policy import Category, DigestRule, LimitRule, QuietAction
from tests.core.build import DAY, HOUR, MAIL, MINUTE, MOBILE, PHONE, T0, Person, a_policy, at

NIGHT = (QuietWindow(22 * 60, 8 * 60),)
EVENING, MORNING = at("2026-03-10 23:00"), at("2026-03-11 08:00")


def at_night(**category: Any) -> Person:
    return Person(a_policy(Category("message", **category)), PHONE, now_ms=EVENING,
                  quiet_hours=NIGHT)  # fmt: skip


def with_digest(rule: DigestRule, **category: Any) -> Person:
    return Person(a_policy(Category("message", digest=rule, **category)), PHONE)


def open_ones(ana: Person) -> list[tuple[str, int, int]]:
    """(key, count, closes after T0) of each open digest."""
    return [(d.key, d.count, d.closes_at_ms - T0) for d in ana.state.waiting.digests]


def test_a_night_gathers_by_the_choice_the_catalogue_or_the_ordinary_rule() -> None:
    keyed = DigestRule("window", key=("actor_id",))
    for rule, choice, key in (
        (None, {}, ""),
        (keyed, {}, "bob"),
        (keyed, {"message": "immediate"}, "bob"),
        (keyed, {"message": "hourly"}, "bob"),
    ):
        ana = Person(a_policy(Category("message", digest=rule, quiet_action="digest")), PHONE,
                     now_ms=EVENING, quiet_hours=NIGHT, digests=choice)  # fmt: skip
        ana.gets("e1", actor_id="bob")
        (opened,) = ana.state.waiting.digests
        assert (opened.key, opened.opened_by) == (key, "quiet_hours")
        assert opened.closes_at_ms == MORNING
        assert ana.entries[-1].inputs["because"] == "quiet_hours"


def test_what_expires_in_the_night_is_held_and_not_gathered() -> None:
    ana = at_night(quiet_action="digest")
    ana.gets("e1", expires_at_ms=MORNING)
    assert ana.verdicts == ["held quiet_hours"]
    assert ana.entries[0].inputs == {
        "zone": "UTC", "quiet_until_ms": str(MORNING), "action": "digest",
    }  # fmt: skip


def test_a_closed_digest_and_a_later_step_are_held_by_night() -> None:
    rule = DigestRule("window", window_ms=2 * HOUR)
    ana = Person(a_policy(Category("message", digest=rule, quiet_action="digest")), PHONE,
                 now_ms=EVENING - 2 * HOUR, quiet_hours=NIGHT)  # fmt: skip
    ana.gets("e1")
    ana.waits_for(2 * HOUR)
    assert ana.verdicts[-1] == "held quiet_hours"
    urgent = Category("message", quiet_action="digest", route="escalate",
                      escalate_after_ms=2 * HOUR)  # fmt: skip
    step = Person(a_policy(urgent), PHONE, MAIL, now_ms=EVENING - 2 * HOUR, quiet_hours=NIGHT)
    step.gets("e1")
    step.waits_for(2 * HOUR)
    assert step.verdicts[-1] == "held quiet_hours"


@pytest.mark.parametrize(
    ("downgrade_to", "channels", "expected"),
    [
        (("email",), ("push", "email", "sms"), [("e1", "email")]),
        (("sms", "email"), ("push", "email", "sms"), [("e1", "email")]),
        (("email",), ("push", "sms"), []),
        ((), ("push", "email", "sms"), []),
    ],
)
def test_a_night_is_for_quiet_channels(
    downgrade_to: Any, channels: Any, expected: list[tuple[str, str]]
) -> None:
    category = Category("message", channels=channels, quiet_action="downgrade",
                        downgrade_to=downgrade_to)  # fmt: skip
    ana = Person(a_policy(category), PHONE, MAIL, MOBILE, now_ms=EVENING, quiet_hours=NIGHT)
    ana.gets("e1")
    assert ana.sent == expected
    if not expected:
        assert ana.verdicts == ["held quiet_hours"]


def test_a_night_that_only_holds_downgrades_nothing() -> None:
    ana = Person(a_policy(Category("message", downgrade_to=("push",))), PHONE, now_ms=EVENING,
                 quiet_hours=NIGHT)  # fmt: skip
    ana.gets("e1")
    assert ana.verdicts == ["held quiet_hours"]


def test_releases_of_a_night_are_spread_and_gathered_ones_too() -> None:
    actions: tuple[QuietAction, ...] = ("hold", "digest")
    for action in actions:
        category = Category("message", quiet_action=action)
        policy = a_policy(category, release_jitter_ms=10 * MINUTE, release_lead_ms=2 * MINUTE)
        ana = Person(policy, PHONE, now_ms=EVENING, quiet_hours=NIGHT)
        ana.gets("e1")
        until_ms = ana.entries[0].until_ms or 0
        assert MORNING + 2 * MINUTE <= until_ms < MORNING + 12 * MINUTE
        assert until_ms % MINUTE, "spread"


def test_what_a_limit_gathers_goes_when_its_slot_is_free() -> None:
    limit = LimitRule("recipient", 1, HOUR, "digest")
    ana = Person(a_policy(Category("message"), limits=(limit,)), PHONE)
    ana.gets("e1")
    ana.now_ms += MINUTE
    ana.gets("e2")
    assert ana.entries[-1].inputs["because"] == "rate_limited"
    assert open_ones(ana) == [("", 1, HOUR)]
    ana.gets("e3", expires_at_ms=T0 + HOUR)
    assert ana.verdicts[-1] == "held rate_limited"
    assert ana.entries[-1].inputs == {
        "limit": "1 per 3600 s per recipient", "free_at_ms": str(T0 + HOUR),
    }  # fmt: skip


def test_a_closed_digest_that_finds_no_slot_is_held() -> None:
    limit = LimitRule("recipient", 1, DAY, "digest")
    both = (Category("message", digest=DigestRule("window", window_ms=HOUR)), Category("like"))
    ana = Person(a_policy(*both, limits=(limit,)), PHONE)
    ana.gets("l1", "like")
    ana.gets("e1")
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "held rate_limited"


def test_a_held_digest_loses_the_muted_and_the_expired_unless_it_is_mandatory() -> None:
    for mandatory, count in ((False, 1), (True, 2)):
        ana = with_digest(DigestRule("window", window_ms=HOUR), mandatory=mandatory)
        ana.gets("e1", actor_id="bob")
        ana.gets("e2", actor_id="eve")
        ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
        ana.waits_for(HOUR)
        ana.prefers(snooze_until_ms=T0 + 2 * HOUR, muted=("actor:bob",))
        ana.waits_for(HOUR)
        assert [d.count for d in ana.deliveries] == [count]


def test_a_digest_of_release_1_goes_as_it_was_gathered() -> None:
    ana = with_digest(DigestRule("window", window_ms=HOUR))
    ana.gets("e1", actor_id="bob")
    ana.gets("e2", actor_id="eve")
    (opened,) = ana.state.waiting.digests
    old = replace(opened, member_facts=b"")
    ana.state = replace(ana.state, waiting=replace(ana.state.waiting, digests=(old,)))
    ana.prefers(muted=("actor:bob",))
    ana.waits_for(HOUR)
    assert [(d.count, d.actors) for d in ana.deliveries] == [(2, 2)]
