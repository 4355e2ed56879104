"""Forgetting somebody: what waits ends with a verdict, nothing is kept, nothing is sent."""

from __future__ import annotations

from streams.core.erasure import state_of_forgotten
from streams.core.model import Erasure, Suppression
from streams.core.policy import Category, DigestRule
from tests.core.build import HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy


def somebody() -> Person:
    """With something held, an open digest, a retry and an escalation's next step."""
    ana = Person(
        a_policy(
            Category("message"),
            Category("digested", digest=DigestRule("window")),
            Category("urgent", route="escalate", escalate_after_ms=HOUR),
        ),
        PHONE,
        MAIL,
        categories={"digested": True},
    )
    ana.gets("e1", send_at_ms=T0 + HOUR)
    ana.gets("e2", "digested")
    ana.gets("e3")
    ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
    ana.gets("e4", "urgent")
    ana.forget_effects()
    return ana


def forgets(ana: Person, lifted: bool = False) -> None:
    ana.decides(Erasure("ana", T0 - MINUTE, ana.source(), lifted=lifted))


def test_what_waits_ends_at_once_and_with_a_verdict() -> None:
    ana = somebody()
    forgets(ana)
    assert sorted(ana.verdicts) == [
        "digest_closed digest_due",
        "noted forgotten",
        "suppressed forgotten",
        "suppressed forgotten",
        "suppressed forgotten",
    ]
    assert not ana.sent
    assert ana.due_ms is None


def test_what_is_left_is_that_somebody_was_forgotten() -> None:
    ana = somebody()
    forgets(ana)
    forgotten = state_of_forgotten("ana", 1, T0 - MINUTE)
    assert forgotten.profile.suppressions == (Suppression("all", "forgotten", T0 - MINUTE),)
    assert ana.state.profile == forgotten.profile
    assert ana.state.activity == forgotten.activity
    assert ana.state.waiting.held == ()
    assert (forgotten.recipient_id, forgotten.partition) == ("ana", 1)


def test_whatever_comes_later_is_told_to_nobody() -> None:
    ana = Person(a_policy(), PHONE)
    ana.state = state_of_forgotten("ana", 1, T0)
    ana.registers(PHONE)
    ana.gets("e1")
    assert ana.verdicts[-1] == "suppressed forgotten"
    assert ana.entries[-1].inputs["scope"] == "all"


def test_lifting_changes_nothing_here() -> None:
    ana = somebody()
    before = ana.state
    forgets(ana, lifted=True)
    assert ana.state is before
    assert not ana.verdicts
