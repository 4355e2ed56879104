"""New preferences and what waits for the old ones; and opting in again."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.model import OpenDigest, QuietWindow, Suppression
from streams.core.policy import Bounds, Category, DigestRule, LimitRule
from streams.core.preferences import version_of
from tests.core.build import HOUR, MINUTE, PHONE, T0, Person, a_policy, at

NIGHT = (QuietWindow(22 * 60, 8 * 60),)
EVENING, MORNING = at("2026-03-10 23:00"), at("2026-03-11 08:00")
TOKYO = "Asia/Tokyo"


def gathering(rule: DigestRule | None, **preferences: Any) -> Person:
    ana = Person(a_policy(Category("message", digest=rule)), PHONE, **preferences)
    ana.gets("e1")
    return ana


def the_digest(ana: Person) -> OpenDigest:
    (opened,) = ana.state.waiting.digests
    return opened


def test_a_window_keeps_its_beginning_when_the_choice_changes() -> None:
    ana = gathering(DigestRule("window", window_ms=5 * HOUR))
    ana.waits_for(10 * MINUTE)
    ana.prefers(digests={"message": "hourly"})
    assert the_digest(ana).closes_at_ms == T0 + HOUR
    late = gathering(DigestRule("window", window_ms=5 * HOUR))
    late.waits_for(2 * HOUR)
    late.prefers(digests={"message": "hourly"})
    assert late.verdicts[-1] == "delivering digest_sent", "an hour is over: now"


def test_a_calendar_begins_when_it_is_chosen() -> None:
    ana = gathering(DigestRule("window", window_ms=5 * HOUR))
    ana.waits_for(2 * HOUR)
    ana.prefers(digests={"message": "daily@13:00"})
    assert the_digest(ana).closes_at_ms == at("2026-03-02 13:00"), "13:00 of today is over"
    ana.prefers(digests={"message": "daily@14:30"})
    assert the_digest(ana).closes_at_ms == at("2026-03-01 14:30")


def test_a_calendar_moves_with_the_zone_and_nothing_else_does() -> None:
    daily = gathering(DigestRule("calendar", times=("18:00",)))
    daily.prefers(zone=TOKYO)
    assert the_digest(daily).closes_at_ms == at("2026-03-02 18:00", TOKYO)
    for zone in ("Africa/Abidjan", "Zulu"):
        daily.prefers(zone=zone)
        assert the_digest(daily).closes_at_ms == at("2026-03-01 18:00")
    before = the_digest(daily)
    daily.prefers(zone="Zulu", locale="pt")
    assert the_digest(daily) is before
    hourly = gathering(DigestRule("debounce", window_ms=HOUR))
    hourly.waits_for(30 * MINUTE)
    before = the_digest(hourly)
    hourly.prefers(zone=TOKYO)
    assert the_digest(hourly) is before


def test_a_calendar_that_moves_is_spread_like_any_other() -> None:
    daily = Category("message", digest=DigestRule("calendar", times=("18:00",)))
    policy = a_policy(daily, release_jitter_ms=10 * MINUTE, release_lead_ms=2 * MINUTE)
    ana = Person(policy, PHONE)
    ana.gets("e1")
    late_ms = the_digest(ana).closes_at_ms - at("2026-03-01 18:00")
    assert 2 * MINUTE <= late_ms < 12 * MINUTE
    ana.prefers(zone=TOKYO)
    assert the_digest(ana).closes_at_ms == at("2026-03-02 18:00", TOKYO) + late_ms


def test_a_choice_of_the_same_rule_changes_nothing() -> None:
    ana = gathering(DigestRule("window", window_ms=HOUR))
    ana.waits_for(30 * MINUTE)
    before = the_digest(ana)
    ana.prefers(digests={"message": "hourly"})
    assert the_digest(ana) is before


def test_a_debounce_that_is_chosen_again_waits_from_now() -> None:
    rule = DigestRule("debounce", window_ms=HOUR, age_ms_max=90 * MINUTE)
    ana = Person(a_policy(Category("message", digest=rule)), PHONE, digests={"message": "hourly"})
    ana.gets("e1")
    ana.waits_for(20 * MINUTE)
    ana.prefers()
    assert the_digest(ana).closes_at_ms == T0 + 80 * MINUTE
    ana.waits_for(20 * MINUTE)
    ana.prefers(digests={"message": "hourly"})
    ana.prefers()
    assert the_digest(ana).closes_at_ms == T0 + 90 * MINUTE


def test_what_a_limit_gathered_waits_for_its_slot_whatever_is_chosen() -> None:
    limit = LimitRule("recipient", 1, HOUR, "digest")
    ana = Person(a_policy(Category("message"), limits=(limit,)), PHONE)
    ana.gets("e1")
    ana.gets("e2")
    before = the_digest(ana)
    ana.prefers(digests={"message": "immediate"}, zone=TOKYO)
    assert the_digest(ana) is before


def test_a_category_that_is_gone_leaves_its_digest_as_it_was() -> None:
    ana = gathering(DigestRule("window"))
    before = the_digest(ana)
    ana.policy = a_policy(Category("left"))
    ana.prefers(digests={"message": "immediate"})
    assert the_digest(ana) is before


def test_what_a_night_gathered_moves_with_the_night() -> None:
    for lead_ms in (0, 2 * MINUTE):
        policy = a_policy(Category("message", quiet_action="digest"), release_lead_ms=lead_ms,
                          release_jitter_ms=lead_ms)  # fmt: skip
        ana = Person(policy, PHONE, now_ms=EVENING, quiet_hours=NIGHT)
        ana.gets("e1")
        late_ms = the_digest(ana).closes_at_ms - MORNING
        assert lead_ms <= late_ms <= 2 * lead_ms
        ana.prefers(quiet_hours=(QuietWindow(22 * 60, 9 * 60),))
        assert the_digest(ana).closes_at_ms == MORNING + HOUR + late_ms
        ana.prefers(quiet_hours=(QuietWindow(0, 60),))
        assert ana.verdicts[-2:] == ["digest_closed digest_due", "delivering digest_sent"]


def test_a_snooze_that_moves_lets_go_or_holds_anew() -> None:
    ana = Person(a_policy(), PHONE, snooze_until_ms=T0 + HOUR)
    ana.gets("e1")
    ana.gets("e2", send_at_ms=T0 + 2 * HOUR)
    ana.prefers(snooze_until_ms=T0 + 3 * HOUR)
    assert [held.due_ms - T0 for held in ana.state.waiting.held] == [2 * HOUR, 3 * HOUR]
    ana.waits(T0 + 2 * HOUR)
    assert ana.verdicts[-1] == "held snoozed"


@pytest.mark.parametrize(
    ("zone", "due"),
    [
        (TOKYO, "2026-03-02 00:00"),
        ("Europe/Lisbon", "2026-03-02 09:00"),
        ("America/New_York", "2026-03-02 14:00"),
    ],
)
def test_a_local_time_is_the_new_zones(zone: str, due: str) -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE)
    ana.gets("e1", send_at_local="09:00")
    ana.prefers(zone=zone)
    (held,) = ana.state.waiting.held
    assert held.due_ms == at(due)
    assert held.notification.expires_at_ms == at(due) + HOUR


def test_a_local_time_that_is_over_there_is_now() -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE)
    ana.gets("e1", send_at_local="2026-03-01T18:00")
    ana.prefers(zone=TOKYO)  # It is 21:00 there.
    assert ana.sent == [("e1", "push")]
    assert ana.deliveries[0].expires_at_ms == T0 + HOUR


def test_a_local_time_moves_no_fixed_expiry() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", send_at_local="09:00", expires_at_ms=at("2026-03-02 10:00"))
    ana.prefers(zone="America/New_York")
    (held,) = ana.state.waiting.held
    assert held.due_ms == held.notification.expires_at_ms == at("2026-03-02 10:00")
    before = held
    ana.prefers(zone="America/New_York", locale="pt")
    assert ana.state.waiting.held[0] is before


def test_preferences_that_touch_nothing_that_waits_leave_it_as_it_is() -> None:
    ana = gathering(DigestRule("window"))
    ana.gets("e2", send_at_ms=T0 + HOUR)
    before = ana.state.waiting
    ana.prefers(locale="pt")
    assert ana.state.waiting is before


# ----------------------------------------------------------------------------------- opting in


def unsubscribed(*names: str, **preferences: Any) -> Person:
    ana = Person(a_policy(), PHONE, **{"updated_at_ms": 1, **preferences})
    for name in names:
        ana.hears("unsubscribed", name=name)
    ana.now_ms += MINUTE
    return ana


def scopes(ana: Person) -> list[str]:
    return [one.scope for one in ana.state.profile.suppressions]


@pytest.mark.parametrize(
    ("old", "new", "lifted"),
    [
        ({}, {"default": True}, "all"),
        ({"default": False}, {"default": True}, "all"),
        ({"default": True}, {"default": True, "locale": "pt"}, ""),
        ({}, {"default": False}, ""),
        ({}, {"categories": {"message": True}}, "category:message"),
        ({"categories": {"message": False}}, {"categories": {"message": True}},
         "category:message"),
        ({"categories": {"message": True}}, {"categories": {"message": True}, "locale": "pt"}, ""),
        ({}, {"categories": {"message": False}}, ""),
        ({}, {"channels": {"push": True}}, "channel:push"),
        ({"channels": {"push": True}}, {"channels": {"push": True}, "locale": "pt"}, ""),
        ({}, {"channels": {"push": False}}, ""),
        ({"channels": {"push": True}}, {"channels": {"push": False}}, ""),
        ({"categories": {"message": True}}, {"categories": {"message": False}}, ""),
        ({"default": True}, {"default": False}, ""),
        ({}, {"cells": {"message/push": True}}, ""),
    ],
)  # fmt: skip
def test_which_yes_takes_back_what(old: Any, new: Any, lifted: str) -> None:
    every = ("all", "category:message", "channel:push")
    ana = unsubscribed(*every, **old)
    ana.forget_effects()
    ana.prefers(**new)
    assert scopes(ana) == [name for name in every if name != lifted]
    assert ana.verdicts == (["noted suppression_lifted"] if lifted else [])
    if lifted:
        assert ana.entries[0].inputs == {"scope": lifted}


def test_a_yes_of_the_same_moment_takes_nothing_back() -> None:
    for later_ms, left in ((0, 1), (1, 0)):
        ana = Person(a_policy(), PHONE)
        ana.hears("unsubscribed", name="all")
        ana.prefers(default=True, updated_at_ms=T0 + later_ms)
        assert len(scopes(ana)) == left


# ------------------------------------------------------------------------------ their own bounds


def test_the_bound_of_preferences_is_in_bytes() -> None:
    for bound, is_taken in ((15, True), (14, False)):
        ana = Person(a_policy(bounds=Bounds(preferences_bytes_max=bound)), PHONE)
        ana.prefers(muted=("actor:é" + "x" * 2,))  # 10 bytes, and UTC and en.
        assert bool(ana.state.profile.preferences.muted) is is_taken
        if not is_taken:
            assert ana.entries[-1].inputs == {"limit": "14", "bytes": "15"}
            assert len(ana.decisions[-1].dead_letters) == 1


def test_a_refused_change_names_both_versions() -> None:
    ana = Person(a_policy(), PHONE)
    ana.prefers(locale="pt", replaces="x" * 99)
    present = version_of(ana.state.profile.preferences)
    assert ana.entries[-1].inputs == {"made_from": "x" * 64, "present": present}
    assert len(present) == 16
    ana.prefers(locale="pt", replaces=present)
    assert ana.state.profile.preferences.locale == "pt"


def test_a_destination_may_weigh_so_much() -> None:
    # Its id 5, its address 7, its attributes 4.
    for bound, is_taken in ((16, True), (15, False)):
        ana = Person(a_policy(bounds=Bounds(destination_bytes_max=bound)))
        ana.registers(replace(PHONE, attributes={"aa": "bb"}))
        assert bool(ana.state.profile.destinations) is is_taken
        if not is_taken:
            assert ana.entries[-1].inputs == {"limit": "15", "bytes": "16"}
            assert not ana.decisions[-1].claims


def test_the_oldest_registrations_go_and_say_why() -> None:
    ana = Person(a_policy(bounds=Bounds(destinations_max=2)))
    for name, registered_ms in (("b", 5), ("a", 5), ("c", 4)):
        ana.registers(replace(PHONE, destination_id=name, registered_at_ms=registered_ms))
    assert [d.destination_id for d in ana.state.profile.destinations] == ["a", "b"]
    assert ana.entries[-1].inputs == {"why": "too many addresses", "destination": "c"}
    assert ana.entries[-1].subject_id == "c"
    ana.policy = a_policy(bounds=Bounds(destinations_max=1))
    ana.registers(replace(PHONE, destination_id="d", registered_at_ms=9))
    assert [d.destination_id for d in ana.state.profile.destinations] == ["d"]


def test_a_new_address_lifts_what_was_about_the_old_one() -> None:
    ana = Person(a_policy(), PHONE)
    ana.hears("bounced", destination_id="phone", occurred_at_ms=T0)
    ana.hears("bounced", destination_id="tablet", occurred_at_ms=T0)
    ana.registers(replace(PHONE, address="new", registered_at_ms=T0))
    assert len(scopes(ana)) == 2, "registered before it bounced"
    ana.registers(replace(PHONE, address="newer", registered_at_ms=T0 + 1))
    assert scopes(ana) == ["destination:tablet"]


def test_a_removal_as_old_as_the_registration_removes() -> None:
    for later_ms, is_left in ((-1, True), (0, False)):
        ana = Person(a_policy(), PHONE)
        ana.removes(PHONE, at_ms=PHONE.registered_at_ms + later_ms)
        assert bool(ana.state.profile.destinations) is is_left
    assert ana.entries[-1].inputs == {"why": "gone", "destination": "phone"}
    for address in ("token-0", "token-2"):
        other = Person(a_policy(), PHONE)
        other.removes(replace(PHONE, address=address))
        assert other.state.profile.destinations == (PHONE,)


def test_forbidden_by_law_stays_after_a_yes_to_something_else() -> None:
    ana = unsubscribed("all")
    ana.hears("complained", destination_id="phone")
    ana.prefers(default=True)
    assert ana.state.profile.suppressions == (
        Suppression("destination:phone", "complained", T0 + MINUTE),
    )
