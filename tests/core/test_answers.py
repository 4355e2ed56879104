"""Answers of sinks: the last attempt, which answer is newer, and addresses that are gone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.model import Status
from streams.core.policy import Bounds, Category, RetryRule
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, SECOND, T0, TABLET, Person, a_policy


def test_the_last_attempt_is_the_rules_last() -> None:
    rule = RetryRule(attempts_max=2, delay_ms=SECOND)
    for attempt, verdict in (
        (1, "retrying retry_scheduled"),
        (2, "dead_lettered attempts_exhausted"),
        (3, "dead_lettered attempts_exhausted"),
    ):
        ana = Person(a_policy(Category("message", retry=rule)), PHONE)
        ana.gets("e1")
        ana.answers(replace(ana.deliveries[0], attempt=attempt), "retry", "busy")
        assert ana.verdicts[-1] == verdict
        if attempt > 1:
            assert ana.entries[-1].inputs == {"attempts": str(attempt), "answer": "busy"}


def test_without_its_category_an_answer_has_the_ordinary_rule() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.policy = a_policy(Category("left"))
    ana.answers(replace(ana.deliveries[0], attempt=7), "retry")
    assert ana.verdicts[-1] == "retrying retry_scheduled"
    ana.answers(replace(ana.deliveries[0], attempt=8), "retry")
    assert ana.verdicts[-1] == "dead_lettered attempts_exhausted"
    unknown = Person(a_policy(), PHONE, MAIL)
    unknown.gets("e1")
    unknown.policy = a_policy(Category("left"))
    unknown.answers(unknown.deliveries[0], "unregistered")
    assert unknown.verdicts[-1] == "suppressed unregistered"


def test_an_attempt_is_newer_by_its_epoch_then_by_its_number() -> None:
    for epoch, attempt, is_new in ((1, 2, False), (1, 1, False), (0, 9, False), (1, 3, True),
                                   (2, 0, True)):  # fmt: skip
        ana = Person(a_policy(), PHONE)
        ana.gets("e1")
        ana.answers(replace(ana.deliveries[0], epoch=1, attempt=2), "retry")
        again = ana.answers(replace(ana.deliveries[0], epoch=epoch, attempt=attempt), "retry")
        assert bool(again.entries) is is_new


def test_an_answer_to_one_delivery_leaves_the_retries_of_the_others() -> None:
    ana = Person(a_policy(), PHONE, TABLET)
    ana.gets("e1")
    for sent in ana.deliveries:
        ana.answers(sent, "retry", retry_after_ms=HOUR)
    assert len(ana.state.waiting.retries) == 2
    ana.answers(replace(ana.deliveries[0], attempt=2), "rejected")
    left = [waiting.delivery.delivery_id for waiting in ana.state.waiting.retries]
    assert left == [ana.deliveries[1].delivery_id]
    assert [known.attempt for known in ana.state.waiting.attempted] == [1, 2]


@pytest.mark.parametrize(
    ("status", "reason", "expected", "inputs"),
    [
        ("rejected", "bad", "dropped rejected", {"answer": "bad", "attempt": "1"}),
        ("rejected", "collapsed", "dropped replaced", {"answer": "collapsed", "attempt": "1"}),
        ("rejected", "a", "dropped rejected", {"answer": "a", "attempt": "1"}),
        (
            "rejected",
            "no such user",
            "dropped rejected",
            {"answer": "no such user", "attempt": "1"},
        ),
        (
            "rejected",
            "no_provider",
            "dead_lettered no_provider",
            {"answer": "no_provider", "attempt": "1", "kind": "fcm"},
        ),
        ("killed", "all", "dropped killed", {"switch": "all"}),
        ("stale", "late", "delivering decided_again", {"answer": "late", "attempt": "1"}),
        ("redrive", "late", "delivering redriven", {}),
        ("retry", "busy", "retrying retry_scheduled", {"answer": "busy", "attempt": "1"}),
        ("ambiguous", "lost", "retrying retry_scheduled", {"answer": "lost", "attempt": "1"}),
    ],
)
def test_what_each_answer_becomes(
    status: Any, reason: str, expected: str, inputs: dict[str, str]
) -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], status, reason)
    assert ana.verdicts[-1] == expected
    assert ana.entries[-1].inputs == inputs


def test_an_accepted_delivery_changes_nothing_but_what_is_known_of_it() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "accepted")
    assert ana.verdicts == ["delivering routed"]
    assert ana.due_ms is None


def test_how_often_it_may_come_too_late() -> None:
    for most, epochs in ((0, [0]), (1, [0, 1]), (2, [0, 1, 2])):
        ana = Person(a_policy(bounds=Bounds(stale_max=most)), PHONE)
        ana.gets("e1")
        for _ in range(most + 1):
            ana.answers(ana.deliveries[-1], "stale", "late")
        assert [d.epoch for d in ana.deliveries] == epochs
        assert ana.verdicts[-1] == "dead_lettered stale_exhausted"
        assert ana.entries[-1].inputs == {"times": str(most + 1), "answer": "late"}


@pytest.mark.parametrize("status", ["retry", "rejected", "unregistered", "ambiguous", "killed"])
def test_only_what_came_too_late_is_counted(status: Status) -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], status)
    assert ana.state.waiting.attempted[0].stale_count == 0


def test_other_answers_begin_to_count_anew() -> None:
    ana = Person(a_policy(bounds=Bounds(stale_max=1)), PHONE)
    ana.gets("e1")
    ana.answers(ana.deliveries[-1], "stale")
    ana.answers(ana.deliveries[-1], "retry")
    assert ana.state.waiting.attempted[0].stale_count == 0
    ana.waits_for(MINUTE)
    ana.answers(ana.deliveries[-1], "stale")
    assert ana.verdicts[-1] == "delivering decided_again"
    assert ana.state.waiting.attempted[0].stale_count == 1


# -------------------------------------------------------------------------- addresses that are gone


@pytest.mark.parametrize(
    ("registered_ms", "address", "is_forgotten"),
    [
        (T0 - DAY, "token-1", True),
        (T0 + 1, "token-1", False),
        (T0 + 1, "token-0", False),
        (T0, "token-1", True),
        (T0, "token-0", False),
        (T0, "token-2", False),
    ],
)
def test_only_the_address_that_was_answered_for_is_forgotten(
    registered_ms: int, address: str, is_forgotten: bool
) -> None:
    ana = Person(a_policy(Category("message", channels=("push",), route="all")), PHONE)
    ana.gets("e1")
    ana.registers(replace(PHONE, registered_at_ms=registered_ms, address=address))
    ana.answers(ana.deliveries[0], "unregistered", "gone")
    assert (not ana.state.profile.destinations) is is_forgotten
    assert ana.verdicts[-1] == "suppressed unregistered"
    assert ana.entries[-1].inputs == {"scope": "destination:phone", "answer": "gone"}
    if is_forgotten:
        assert ana.entries[-2].inputs == {"why": "gone", "destination": "phone"}
        assert ana.entries[-2].event_id == "e1"


def test_only_first_falls_back() -> None:
    for route, sent in (("first", 2), ("all", 2), ("escalate", 2)):
        category = Category("message", channels=("push", "email"), route=route)  # type: ignore[arg-type]
        ana = Person(a_policy(category), PHONE, MAIL)
        ana.gets("e1")
        before = len(ana.sent)
        ana.answers(ana.deliveries[0], "unregistered")
        assert len(ana.sent) == sent
        fell_back = ana.verdicts[-1] == "delivering fallback"
        assert fell_back is (route != "all")
        assert before == (2 if route == "all" else 1)


def test_a_step_that_was_planned_is_taken_at_once_only_by_what_escalates() -> None:
    """The catalogue has changed since: what is planned keeps its time."""
    urgent = Category("message", channels=("push", "email"), route="escalate",
                      escalate_after_ms=HOUR)  # fmt: skip
    for route in ("first", "all"):
        ana = Person(a_policy(urgent), PHONE, TABLET, MAIL)
        ana.gets("e1")
        ana.policy = a_policy(replace(urgent, route=route))
        ana.answers(ana.deliveries[0], "unregistered")
        assert ana.verdicts[-1] == "suppressed unregistered"
        assert [step.due_ms for step in ana.state.waiting.escalations] == [T0 + HOUR]


def test_a_fallback_is_remembered_as_long_as_the_delivery_may_live() -> None:
    ana = Person(a_policy(Category("message", channels=("push", "email"))), PHONE, MAIL)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "unregistered")
    mark = ana.state.waiting.attempted[-1]
    assert mark.delivery_id == f"{ana.deliveries[0].notification_id}/push"
    assert mark.forget_at_ms == ana.deliveries[0].expires_at_ms + 1
    assert mark.stale_count == 0


def test_the_next_step_of_this_notification_is_taken_and_no_other() -> None:
    urgent = Category("message", channels=("push", "email"), route="escalate",
                      escalate_after_ms=HOUR)  # fmt: skip
    ana = Person(a_policy(urgent), PHONE, MAIL)
    for name in ("e1", "e2", "e3"):
        ana.gets(name)
    ana.answers(ana.deliveries[1], "unregistered")
    assert ana.sent[3:] == [("e2", "email")]
    left = [step.notification.event_id for step in ana.state.waiting.escalations]
    assert left == ["e1", "e3"]
