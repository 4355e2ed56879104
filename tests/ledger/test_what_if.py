"""Deciding again: the same catalogue gives what was recorded, another one what it would have."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.model import (
    Decision,
    Destination,
    DestinationInput,
    Input,
    PreferenceInput,
    QuietWindow,
    Suppression,
    Wake,
)
from streams.core.policy import Category, DigestRule, LimitRule, Policy
from streams.ledger import what_if
from streams.ledger.what_if import Compared, Decided, Fate, Run, Told
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, SECOND, T0, Person, a_policy

WINDOW = DigestRule(mode="window", window_ms=HOUR)


class Recorded(Person):
    """A recipient whose inputs and entries are kept with their clocks, as the ledger has them."""

    def __init__(self, policy: Policy, *destinations: Destination, **preferences: Any) -> None:
        self.inputs: list[Decided] = []
        self.told: list[Told] = []
        super().__init__(policy, *destinations, **preferences)

    def decides(self, entered: Input) -> Decision:
        decision = super().decides(entered)
        self.told += [what_if.told_of(entry, self.now_ms) for entry in decision.entries]
        if not isinstance(entered, Wake | PreferenceInput | DestinationInput):
            self.inputs.append(Decided(self.now_ms, entered))
        return decision

    def again(self, policy: Policy) -> Run:
        profile = self.state.profile
        return what_if.run("ana", 1, profile, self.inputs, policy, self.now_ms)

    def under(self, policy: Policy) -> dict[str, Compared]:
        found = what_if.compare(self.inputs, self.told, self.again(self.policy), self.again(policy))
        return {one.event_id: one for one in found}


def test_the_same_catalogue_reproduces_and_shows_no_difference() -> None:
    policy = a_policy(Category("message", channels=("push",), digest=WINDOW))
    ana = Recorded(policy, PHONE)
    ana.gets("e1")
    ana.waits_for(5 * MINUTE)
    ana.gets("e2")
    ana.waits_for(2 * HOUR)
    found = ana.under(policy)
    assert list(found) == ["e1", "e2"]
    for one in found.values():
        sent = Fate("sent", "digest_due", ("push",), True, T0 + HOUR)
        assert (one.recorded, one.today, one.other) == (sent, sent, sent)
        assert one.is_reproduced
        assert not one.differs


def test_another_catalogue_shows_what_it_would_have_done_and_when() -> None:
    policy = a_policy(Category("message", channels=("push",), digest=WINDOW), Category("news"))
    other = a_policy(Category("message", channels=("push",)), Category("news", default_on=False))
    ana = Recorded(policy, PHONE)
    ana.gets("e1")
    ana.gets("e2", "news")
    ana.waits_for(2 * HOUR)
    found = ana.under(other)
    assert found["e1"].today.said == "sent in a digest on push (after digest_due)"
    assert found["e1"].other == Fate("sent", "", ("push",), False, T0)
    assert found["e2"].other == Fate("suppressed", "opted_out", at_ms=T0)
    assert all(one.differs and one.is_reproduced for one in found.values())


def test_the_same_thing_at_another_time_is_a_difference() -> None:
    ana = Recorded(a_policy(Category("message", channels=("push",), digest=WINDOW)), PHONE)
    ana.gets("e1")
    ana.waits_for(DAY)
    longer = replace(WINDOW, window_ms=2 * HOUR)
    (one,) = ana.under(a_policy(Category("message", channels=("push",), digest=longer))).values()
    assert one.today.is_like(one.other)
    assert (one.today.at_ms, one.other.at_ms) == (T0 + HOUR, T0 + 2 * HOUR)
    assert one.differs


def test_what_is_still_waiting_is_said() -> None:
    ana = Recorded(a_policy(Category("message", channels=("push",))), PHONE)
    ana.gets("e1")
    gathered = a_policy(Category("message", channels=("push",), digest=WINDOW))
    (one,) = ana.under(gathered).values()
    assert one.other.said == "waiting in a digest: digested"


def test_an_answer_counts_only_where_its_delivery_was_made() -> None:
    policy = a_policy(Category("message", channels=("push", "email")))
    ana = Recorded(policy, PHONE, MAIL)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", "busy")
    ana.waits_for(DAY)
    same = ana.again(policy)
    assert same.skipped == 0
    assert [told.verdict for told in same.told] == ["delivering", "retrying", "delivering"]
    mail = ana.again(a_policy(Category("message", channels=("email",))))
    assert mail.skipped == 1
    assert [(told.verdict, told.channels) for told in mail.told] == [("delivering", ("email",))]


def test_a_receipt_that_ended_an_escalation_does_so_again() -> None:
    category = Category(
        "message", channels=("push", "email"), route="escalate", escalate_after_ms=HOUR
    )
    ana = Recorded(a_policy(category), PHONE, MAIL)
    ana.gets("e1")
    ana.waits_for(MINUTE)
    ana.hears("seen", delivery_id=ana.deliveries[0].delivery_id)
    ana.waits_for(DAY)
    quicker = replace(category, escalate_after_ms=30 * SECOND)
    (one,) = ana.under(a_policy(quicker)).values()
    assert (one.recorded.channels, one.other.channels) == (("push",), ("email", "push"))


def test_addresses_and_suppressions_hold_from_their_own_time_on() -> None:
    policy = a_policy(Category("message", channels=("email",)))
    ana = Recorded(policy)
    ana.gets("before")
    ana.waits_for(HOUR)
    ana.registers(replace(MAIL, registered_at_ms=ana.now_ms))
    ana.gets("between")
    ana.waits_for(HOUR)
    ana.hears("unsubscribed", destination_id="mail")
    ana.gets("after")
    ana.inputs = [one for one in ana.inputs if not hasattr(one.input, "kind")]
    found = ana.under(policy)
    assert {name: one.today.what for name, one in found.items()} == {
        "before": "suppressed", "between": "sent", "after": "suppressed",
    }  # fmt: skip
    assert found["after"].today.reason == "unsubscribed"
    assert all(one.is_reproduced for one in found.values())


def test_what_cannot_be_reproduced_is_marked() -> None:
    policy = a_policy(Category("message", channels=("push",)))
    ana = Recorded(policy, PHONE)
    ana.gets("e1")
    ana.waits_for(HOUR)
    ana.prefers(default=False)
    (one,) = ana.under(policy).values()
    assert one.recorded.what == "sent"
    assert one.today.reason == "opted_out"
    assert not one.is_reproduced
    assert not one.differs


def test_a_repeat_is_one_event() -> None:
    policy = a_policy(Category("message", channels=("push",)))
    ana = Recorded(policy, PHONE)
    ana.gets("e1")
    ana.gets("e1")
    assert [one.today.what for one in ana.under(policy).values()] == ["sent"]


def test_a_run_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what_if, "WAKES_MAX", 3)
    ana = Recorded(a_policy(Category("message", channels=("push",), digest=WINDOW)), PHONE)
    for number in range(6):
        ana.gets(f"e{number}")
        ana.waits_for(2 * HOUR)
    run = ana.again(ana.policy)
    assert run.is_cut


@pytest.mark.parametrize("seed", range(30))
def test_random_lives_are_reproduced(seed: int) -> None:
    """Whatever a policy does, deciding the same inputs again is the same story."""
    draw = random.Random(seed)
    policy = a_policy(
        Category("message", channels=("push",), digest=draw.choice((None, WINDOW))),
        Category("urgent", priority="critical", route="all"),
        Category("slow", limits=(LimitRule("category", 1, HOUR),), quiet_action="digest"),
        Category("steps", route="escalate", escalate_after_ms=10 * MINUTE),
    )
    night = QuietWindow(draw.randrange(1440), draw.randrange(1440))
    ana = Recorded(policy, PHONE, MAIL, quiet_hours=(night,))
    for number in range(40):
        ana.waits_for(draw.choice((0, SECOND, 20 * MINUTE, 3 * HOUR)))
        name = draw.choice(("message", "urgent", "slow", "steps"))
        ana.gets(f"e{number}", name, actor_id=draw.choice("ab"))
        if draw.random() < 0.3 and ana.deliveries:
            status: Any = draw.choice(("retry", "rejected", "stale", "ambiguous"))
            ana.answers(draw.choice(ana.deliveries), status)
        if draw.random() < 0.1:
            ana.cancels(f"e{draw.randrange(number + 1)}")
    ana.waits_for(3 * DAY)
    assert ana.again(policy).told == ana.told
    assert all(one.is_reproduced and not one.differs for one in ana.under(policy).values())


def test_the_bound_of_a_suppression_is_kept() -> None:
    policy = a_policy(Category("message", channels=("email",)))
    ana = Recorded(policy, MAIL)
    ana.gets("during")
    ana.waits_for(2 * HOUR)
    ana.gets("later")
    ended = Suppression("channel:email", "soft_bounced", T0 - HOUR, T0 + HOUR)
    profile = replace(ana.state.profile, suppressions=(ended,))
    run = what_if.run("ana", 1, profile, ana.inputs, policy, ana.now_ms)
    assert [(told.event_id, told.verdict) for told in run.told] == [
        ("during", "suppressed"), ("later", "delivering"),
    ]  # fmt: skip
