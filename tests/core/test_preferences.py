"""Preferences: the whole truth table, and what cannot be used."""

from __future__ import annotations

from itertools import product

import pytest

from streams.core.model import Preferences, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule
from streams.core.preferences import channel_order, usable, wants
from tests.core.build import DAY, HOUR, MAIL, MINUTE, MOBILE, PHONE, T0, Person, a_policy

CHOICES = (None, True, False)


@pytest.mark.parametrize("mandatory", [True, False])
@pytest.mark.parametrize("default_on", [True, False])
@pytest.mark.parametrize("opt_in_channel", [True, False])
def test_the_most_specific_choice_wins(
    mandatory: bool, default_on: bool, opt_in_channel: bool
) -> None:
    """All 81 combinations of what a recipient can say, for each kind of category."""
    category = Category(
        "like",
        mandatory=mandatory,
        default_on=default_on,
        channels=("push", "email"),
        default_off_channels=("push",) if opt_in_channel else (),
    )
    for cell, channel, by_category, default in product(CHOICES, repeat=4):
        chosen = Preferences(
            default=default,
            categories={} if by_category is None else {"like": by_category},
            channels={} if channel is None else {"push": channel},
            cells={} if cell is None else {"like/push": cell},
        )
        if mandatory:
            expected = (True, "mandatory")
        elif cell is not None:
            expected = (cell, "cell like/push")
        elif channel is not None:
            expected = (channel, "channel push")
        elif by_category is not None:
            expected = (by_category, "category like")
        elif default is not None:
            expected = (default, "recipient default")
        elif opt_in_channel:
            expected = (False, "policy channel push")
        else:
            expected = (default_on, "policy category like")
        assert wants(category, "push", chosen) == expected


def test_a_choice_for_something_else_decides_nothing() -> None:
    chosen = Preferences(
        categories={"other": False}, channels={"email": False}, cells={"like/email": False}
    )
    assert wants(Category("like"), "push", chosen) == (True, "policy category like")


def test_the_recipient_orders_the_channels_that_the_category_has() -> None:
    category = Category("like", channels=("push", "email", "sms"))
    assert channel_order(category, Preferences()) == ("push", "email", "sms")
    wished = Preferences(channel_order={"like": ("sms", "chat", "sms", "push")})
    assert channel_order(category, wished) == ("sms", "push", "email")
    assert channel_order(category, Preferences(channel_order={"other": ("sms",)})) == (
        "push",
        "email",
        "sms",
    )
    ana = Person(a_policy(category), PHONE, MOBILE, channel_order={"like": ("sms",)})
    ana.gets("e1", "like")
    assert ana.sent == [("e1", "sms")]


def test_an_opt_out_reaches_everything_that_was_not_handed_over() -> None:
    digested = Category("like", channels=("push",))
    ana = Person(a_policy(digested, Category("message", channels=("push",))), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry")
    ana.gets("e2", send_at_ms=T0 + HOUR)
    ana.forget_effects()
    ana.prefers(categories={"message": False})
    ana.waits_for(2 * HOUR)
    assert ana.verdicts == ["suppressed opted_out"] * 2
    assert not ana.sent


def test_a_snooze_holds_all_but_the_critical() -> None:
    alert = Category("alert", priority="critical")
    ana = Person(a_policy(Category("message"), alert), PHONE, snooze_until_ms=T0 + HOUR)
    ana.gets("e1")
    ana.gets("a1", "alert")
    assert ana.sent == [("a1", "push")]
    assert ana.entries[0].until_ms == T0 + HOUR
    ana.waits_for(HOUR)
    assert ana.sent[-1] == ("e1", "push")


def test_an_end_of_the_snooze_releases_at_once() -> None:
    ana = Person(a_policy(), PHONE, snooze_until_ms=T0 + DAY)
    ana.gets("e1")
    ana.prefers()
    assert ana.sent == [("e1", "push")]


def test_a_muted_actor_or_key_is_not_told_of() -> None:
    keyed = Category("message", digest=DigestRule("lookback", key=("data.thread",)))
    ana = Person(a_policy(keyed), PHONE, muted=("actor:bob", "key:t1", "key:score"))
    ana.gets("e1", actor_id="bob")
    ana.gets("e2", data={"thread": "t1"})
    ana.gets("e3", collapse_key="score")
    ana.gets("e4", actor_id="eve", data={"thread": "t2"})
    assert ana.verdicts == ["suppressed muted"] * 3 + ["delivering routed"]
    assert [entry.inputs["muted"] for entry in ana.entries[:3]] == [
        "actor:bob",
        "key:t1",
        "key:score",
    ]


def test_mandatory_categories_cannot_be_muted() -> None:
    ana = Person(a_policy(Category("bill", mandatory=True)), PHONE, muted=("actor:bob",))
    ana.gets("e1", "bill", actor_id="bob")
    assert ana.sent == [("e1", "push")]


def test_a_muted_actor_leaves_an_open_digest_and_the_others_stay() -> None:
    ana = Person(a_policy(Category("message", digest=DigestRule("window"))), PHONE)
    ana.gets("e1", actor_id="bob")
    ana.gets("e2", actor_id="eve")
    ana.gets("e3", actor_id="bob")
    ana.prefers(muted=("actor:bob",))
    ana.waits_for(HOUR)
    (digest,) = ana.deliveries
    assert (digest.count, digest.actors) == (1, 1)
    assert [item.event_id for item in digest.items] == ["e2"]
    ana.gets("e4", actor_id="eve")
    ana.prefers(muted=("actor:eve",))
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "suppressed muted"


def test_one_wrong_field_does_not_undo_the_rest() -> None:
    wished = Preferences(
        categories={"message": False},
        zone="Mars/Olympus",
        quiet_hours=(QuietWindow(60, 120), QuietWindow(-1, 5), QuietWindow(0, 1441)),
        digests={"message": "hourly", "like": "daily@25:00", "promo": "weekly", "x": "daily@8:5"},
    )
    kept, ignored = usable(wished, Bounds())
    assert kept.zone == "UTC"
    assert kept.quiet_hours == (QuietWindow(60, 120),)
    assert kept.digests == {"message": "hourly"}
    assert kept.categories == {"message": False}
    assert ignored == {"zone": "Mars/Olympus", "quiet_hours": "2", "digests": "like, promo, x"}
    fine = Preferences(
        zone="Europe/Lisbon",
        quiet_hours=(QuietWindow(0, 1440), QuietWindow(1440, 0)),
        digests={"a": "immediate", "b": "hourly", "c": "daily@00:00", "d": "daily@9:30"},
    )
    assert usable(fine, Bounds()) == (fine, {})


def test_what_was_ignored_is_said_once() -> None:
    ana = Person(a_policy(), PHONE)
    for _ in range(2):
        ana.prefers(zone="Mars/Olympus", updated_at_ms=1)
    assert ana.verdicts == ["noted preference_ignored"]
    assert ana.entries[0].inputs == {"zone": "Mars/Olympus"}


def test_preferences_that_are_too_large_change_nothing() -> None:
    ana = Person(a_policy(), PHONE, categories={"message": False})
    ana.prefers(muted=tuple(f"actor:{'x' * 200}{n}" for n in range(200)))
    assert ana.verdicts == ["noted preferences_too_large"]
    assert ana.decisions[-1].dead_letters[0].reason == "preferences_too_large"
    assert ana.state.profile.preferences.categories == {"message": False}


def test_the_same_preferences_again_change_nothing() -> None:
    ana = Person(a_policy(), PHONE, MAIL, snooze_until_ms=T0 + HOUR, updated_at_ms=T0)
    ana.gets("e1")
    before = ana.state
    ana.now_ms += MINUTE
    decision = ana.prefers(snooze_until_ms=T0 + HOUR, updated_at_ms=T0)
    assert decision.state is before
    assert not decision.entries
