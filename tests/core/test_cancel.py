"""Withdrawals beyond the ordinary: their bounds, what is meant and what is not, who answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.cancel import Wanted
from streams.core.ids import hash8
from streams.core.model import Event, EventInput, Notification
from streams.core.policy import Bounds, Category, DigestRule
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy

DIGESTED = Category("message", digest=DigestRule("window", window_ms=HOUR))
ESCALATED = Category("message", route="escalate", escalate_after_ms=HOUR)


@pytest.mark.parametrize(
    ("wanted", "is_meant"),
    [
        (Wanted("e1"), True),
        (Wanted("e2"), False),
        (Wanted("e0"), False),
        (Wanted(None, "score"), True),
        (Wanted(None, "price"), False),
        (Wanted(None, "zone"), False),
        (Wanted(None, "score", "message"), True),
        (Wanted(None, "score", "like"), False),
        (Wanted(None, "score", "zoo"), False),
    ],
)
def test_what_is_meant(wanted: Wanted, is_meant: bool) -> None:
    single = Notification("n", "message", "normal", 0, 0, 0, {}, "e1", collapse_key="score")
    assert wanted.matches(single) is is_meant
    gathered = replace(
        single, event_id=None, members=hash8("e0") + hash8("e1"), collapse={"score": "e1"}
    )
    expected = "e1" if is_meant else ("e0" if wanted.event_id == "e0" else None)
    assert wanted.member_of(gathered) == expected


def test_a_member_is_not_meant_by_a_key_that_no_member_has_any_more() -> None:
    left = Notification("n", "message", "normal", 0, 0, 0, {}, members=hash8("e0"),
                        collapse={"score": "e1"})  # fmt: skip
    assert Wanted(None, "score").member_of(left) is None
    assert Wanted(None, None).member_of(left) is None


@pytest.mark.parametrize(
    ("fields", "is_refused"),
    [
        ({"event_id": "x" * 8}, False),
        ({"event_id": "x" * 9}, True),
        ({"event_id": "é" * 4}, False),
        ({"event_id": "é" * 5}, True),
        ({"collapse_key": "x" * 8}, False),
        ({"collapse_key": "é" * 5}, True),
        ({"event_id": "x" * 9, "collapse_key": "x"}, True),
        ({"event_id": "x", "collapse_key": "x" * 9}, True),
        ({"event_id": "x" * 8, "collapse_key": "x" * 8}, False),
    ],
)
def test_the_bound_of_its_ids(fields: dict[str, Any], is_refused: bool) -> None:
    ana = Person(a_policy(bounds=Bounds(id_bytes_max=8)), PHONE)
    decision = ana.cancels(**fields)
    assert [letter.reason for letter in decision.dead_letters] == ["id_too_long"] * is_refused
    assert bool(decision.entries) is not is_refused


def test_a_cancellation_can_name_an_event_and_a_key() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", send_at_ms=T0 + HOUR)
    ana.gets("e2", send_at_ms=T0 + HOUR, collapse_key="score")
    ana.cancels("e1", "score")
    assert sorted(entry.event_id or "" for entry in ana.entries[2:]) == ["e1", "e2"]
    assert ana.verdicts[2:] == ["cancelled cancelled"] * 2


def test_a_remembered_cancellation_holds_until_its_horizon_ends() -> None:
    for waited_ms, verdict in (
        (HOUR - 1, "cancelled cancelled_before_arrival"),
        (HOUR, "delivering routed"),
    ):
        ana = Person(a_policy(cancel_horizon_ms=HOUR), PHONE)
        ana.cancels("e1")
        ana.waits_for(waited_ms)
        ana.gets("e1")
        assert ana.verdicts[-1] == verdict


def test_what_is_forgotten_makes_room_before_anything_else_goes() -> None:
    ana = Person(a_policy(cancel_horizon_ms=HOUR, bounds=Bounds(cancelled_max=3)), PHONE)
    ana.cancels("e1")
    ana.waits_for(MINUTE)
    ana.cancels("e2")
    ana.cancels("e3")
    ana.waits(T0 + HOUR)
    ana.cancels("e4")
    marks = [mark for mark, _ in ana.state.waiting.cancelled]
    assert marks == [hash8(name) for name in ("e2", "e3", "e4")]
    ana.cancels("e5")
    assert [mark for mark, _ in ana.state.waiting.cancelled] == [
        hash8(name) for name in ("e3", "e4", "e5")
    ]
    assert ana.state.waiting.cancelled[-1][1] == ana.now_ms + HOUR


def test_all_that_are_forgotten_at_a_moment_go_together() -> None:
    ana = Person(a_policy(cancel_horizon_ms=HOUR, bounds=Bounds(cancelled_max=3)), PHONE)
    for name, later_ms in (("e1", 0), ("e2", 0), ("e3", 1), ("e4", HOUR - 1)):
        ana.now_ms += later_ms
        ana.cancels(name)
    assert [mark for mark, _ in ana.state.waiting.cancelled] == [hash8("e3"), hash8("e4")]


def test_a_cancellation_of_what_was_seen_long_ago_is_remembered_only() -> None:
    for waited_ms, reason in ((DAY, "too_late_to_cancel"), (2 * DAY, "cancel_remembered")):
        ana = Person(a_policy(), PHONE)
        ana.gets("e1")
        ana.waits_for(waited_ms)
        ana.cancels("e1")
        assert ana.entries[-1].reason == reason
        assert ana.entries[-1].subject_id == ana.entries[0].subject_id


def test_a_retry_that_waits_is_concluded_and_answers() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", actor_id="bob")
    ana.answers(ana.deliveries[0], "retry")
    ana.cancels("e1")
    assert ana.verdicts[2:] == ["cancelled cancelled"]
    assert ana.entries[2].event_id == "e1"
    assert ana.entries[2].subject_id == ana.deliveries[0].notification_id
    assert not ana.state.waiting.retries


def test_only_what_is_meant_is_taken_out() -> None:
    ana = Person(a_policy(Category("message"), replace(ESCALATED, name="urgent")), PHONE, MAIL)
    for name in ("h1", "h2"):
        ana.gets(name, send_at_ms=T0 + HOUR)
    for name in ("r1", "r2"):
        ana.gets(name)
        ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
    for name in ("x1", "x2"):
        ana.gets(name, "urgent")
    ana.forget_effects()
    for name in ("h1", "r1", "x1"):
        ana.cancels(name)
    waiting = ana.state.waiting
    assert [held.notification.event_id for held in waiting.held] == ["h2"]
    assert [retry.delivery.event_id for retry in waiting.retries] == ["r2"]
    assert [step.notification.event_id for step in waiting.escalations] == ["x2"]
    assert ana.verdicts == [
        "cancelled cancelled",
        "cancelled cancelled",
        "noted escalation_ended",
        "noted too_late_to_cancel",
    ]
    assert ana.entries[2].inputs == {"by": "cancelled"}


def test_a_step_that_is_held_ends_and_says_by_what() -> None:
    ana = Person(a_policy(ESCALATED), PHONE, MAIL)
    ana.gets("e1", collapse_key="score")
    ana.prefers(snooze_until_ms=T0 + DAY)
    ana.waits_for(2 * HOUR)
    assert ana.state.waiting.held[0].step == 1
    ana.forget_effects()
    ana.gets("e2", collapse_key="score")
    assert ana.verdicts[0] == "noted step_ended"
    assert ana.entries[0].inputs == {"by": "collapsed"}
    assert ana.entries[0].event_id == "e1"
    assert [held.notification.event_id for held in ana.state.waiting.held] == ["e2"]


def test_an_event_leaves_the_one_open_digest_that_has_it() -> None:
    keyed = Category("message", digest=DigestRule("window", key=("actor_id",)))
    ana = Person(a_policy(keyed), PHONE)
    for number, actor in enumerate(("bob", "eve", "bob")):
        ana.gets(f"e{number}", actor_id=actor)
    ana.forget_effects()
    before = ana.state.waiting.digests
    ana.cancels("e2")
    assert ana.verdicts == ["cancelled cancelled"]
    assert ana.entries[0].digest_id == before[0].digest_id
    after = ana.state.waiting.digests
    assert [(opened.key, opened.count) for opened in after] == [("bob", 1), ("eve", 1)]
    assert after[1] is before[1]


def test_an_event_leaves_the_one_held_digest_that_has_it() -> None:
    keyed = Category("message", digest=DigestRule("window", key=("actor_id",)))
    ana = Person(a_policy(keyed), PHONE)
    for number, actor in enumerate(("bob", "eve", "bob")):
        ana.gets(f"e{number}", actor_id=actor)
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits_for(HOUR)
    ana.forget_effects()
    held = ana.state.waiting.held
    ana.cancels("e2")
    assert ana.verdicts == ["cancelled cancelled"]
    assert ana.entries[0].digest_id == held[0].notification.notification_id
    assert [one.notification.count for one in ana.state.waiting.held] == [1, 1]
    ana.cancels("e1")
    assert ana.verdicts[1:] == ["cancelled cancelled", "cancelled digest_empty"]
    assert [one.notification.digest_key for one in ana.state.waiting.held] == ["bob"]


def test_what_nothing_waits_for_leaves_the_state_alone() -> None:
    ana = Person(a_policy(DIGESTED), PHONE)
    ana.gets("e1")
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits_for(HOUR)
    ana.gets("e2")
    before = ana.state.waiting
    ana.cancels("unknown")
    assert ana.state.waiting.held is before.held
    assert ana.state.waiting.digests is before.digests
    assert ana.verdicts[-1] == "noted cancel_remembered"


def test_leaving_a_digest_is_an_answer() -> None:
    """Nothing else waits: what left is cancelled, and not too late as well."""
    ana = Person(a_policy(DIGESTED), PHONE)
    ana.gets("e1", collapse_key="score")
    ana.gets("e2", collapse_key="price")
    ana.forget_effects()
    ana.cancels(collapse_key="score")
    assert ana.verdicts == ["cancelled cancelled"]
    ana.prefers(snooze_until_ms=T0 + 2 * HOUR)
    ana.waits_for(HOUR)
    ana.forget_effects()
    ana.cancels(collapse_key="price")
    assert ana.verdicts == ["cancelled cancelled", "cancelled digest_empty"]


def test_a_key_is_withdrawn_for_what_came_until_then() -> None:
    """The cancellation holds for its own moment, and not for the one after it."""
    for late_ms, reason in ((0, "cancelled_before_arrival"), (1, "routed")):
        ana = Person(a_policy(), PHONE)
        ana.cancels(collapse_key="score")
        assert ana.verdicts == ["noted too_late_to_cancel"]
        assert ana.entries[0].inputs == {"collapse_key": "score"}
        source = replace(ana.source(), appended_at_ms=T0 + late_ms)
        ana.now_ms += MINUTE
        ana.decides(EventInput(Event("e1", "ana", "message", T0, collapse_key="score"), source))
        assert ana.entries[-1].reason == reason


def test_an_event_without_a_key_has_not_the_key_none() -> None:
    ana = Person(a_policy(), PHONE)
    ana.cancels(collapse_key="None")
    source = ana.source()
    ana.now_ms += MINUTE
    ana.gets("newer", collapse_key="None")
    ana.decides(EventInput(Event("e1", "ana", "message", T0), source))
    assert ana.verdicts[-2:] == ["delivering routed"] * 2


def test_the_same_withdrawal_of_a_key_answers_once_and_a_later_one_again() -> None:
    ana = Person(a_policy(), PHONE)
    ana.cancels(collapse_key="score")
    ana.cancels(collapse_key="score")
    assert len(ana.verdicts) == 1
    ana.now_ms += 1
    ana.cancels(collapse_key="score")
    assert len(ana.verdicts) == 2
    assert ana.state.waiting.newest == {"*|score": T0 + 2}


def test_an_event_as_old_as_the_newest_is_not_outdated() -> None:
    ana = Person(a_policy(Category("message"), Category("like")), PHONE)
    ana.gets("e1", collapse_key="score")
    ana.gets("e2", collapse_key="score")
    assert ana.verdicts == ["delivering routed"] * 2
    ana.now_ms += MINUTE
    for category, verdict in (("message", "cancelled collapsed"), ("like", "delivering routed")):
        source = replace(ana.source(), appended_at_ms=T0 - 1)
        event = Event(f"of-{category}", "ana", category, T0, collapse_key="score")
        ana.decides(EventInput(event, source))
        assert ana.verdicts[-1] == verdict
    assert ana.state.waiting.newest == {"message|score": T0, "like|score": T0 - 1}


def test_at_the_bound_of_keys_the_outdated_go_and_else_the_oldest() -> None:
    ana = Person(a_policy(cancel_horizon_ms=HOUR, bounds=Bounds(collapse_keys_max=3)), PHONE)

    def keys() -> str:
        return "".join(sorted(name[-1] for name in ana.state.waiting.newest))

    for key, later_ms in (("a", 0), ("b", 1), ("c", 1)):
        ana.now_ms += later_ms
        ana.gets(f"e-{key}", collapse_key=key)
    assert keys() == "abc"
    ana.gets("again", collapse_key="c")
    assert keys() == "abc", "one that is known needs no room"
    ana.now_ms = T0 + MINUTE
    ana.gets("e-d", collapse_key="d")
    assert keys() == "bcd", "the oldest went"
    ana.now_ms = T0 + 1 + HOUR
    ana.gets("e-e", collapse_key="e")
    assert keys() == "cde", "b ended just now, c did not"
    ana.now_ms = T0 + 2 * HOUR
    ana.gets("e-f", collapse_key="f")
    assert keys() == "ef"


def test_a_bound_of_keys_that_shrank_is_kept_to_with_the_next_one() -> None:
    ana = Person(a_policy(), PHONE)
    for key in ("a", "b", "c"):
        ana.gets(f"e-{key}", collapse_key=key)
        ana.now_ms += 1
    ana.policy = a_policy(bounds=Bounds(collapse_keys_max=2))
    ana.gets("e-d", collapse_key="d")
    assert sorted(ana.state.waiting.newest) == ["message|b", "message|c", "message|d"]


def test_the_oldest_key_goes_whatever_its_name() -> None:
    ana = Person(a_policy(bounds=Bounds(collapse_keys_max=3)), PHONE)
    for key in "bacd":
        ana.gets(f"e-{key}", collapse_key=key)
        ana.now_ms += 1
    assert sorted(ana.state.waiting.newest) == ["message|a", "message|c", "message|d"]


def test_all_keys_that_are_outdated_go_together() -> None:
    ana = Person(a_policy(cancel_horizon_ms=HOUR, bounds=Bounds(collapse_keys_max=3)), PHONE)
    for key, later_ms in (("a", 0), ("b", 0), ("c", 1), ("d", HOUR - 1)):
        ana.now_ms += later_ms
        ana.gets(f"e-{key}", collapse_key=key)
    assert sorted(ana.state.waiting.newest) == ["message|c", "message|d"]


def test_of_keys_equally_old_the_first_by_name_goes() -> None:
    ana = Person(a_policy(bounds=Bounds(collapse_keys_max=2)), PHONE)
    for key in ("b", "a", "c"):
        ana.gets(f"e-{key}", collapse_key=key)
    assert sorted(ana.state.waiting.newest) == ["message|b", "message|c"]
