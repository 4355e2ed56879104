"""A retry by itself: how long it waits, and which answers are remembered."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import retry
from streams.core.ids import jitter
from streams.core.model import Attempted, Delivery, Feedback, Source
from streams.core.policy import RetryRule
from tests.core.build import HOUR, MINUTE, PHONE, SECOND, T0, Person, a_policy

RULE = RetryRule(attempts_max=9, delay_ms=SECOND, delay_ms_max=MINUTE)
NOWHERE = Source("test", 0, 0, T0)


def a_delivery(name: str = "d1", **fields: object) -> Delivery:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", expires_at_ms=T0 + HOUR)
    return replace(ana.deliveries[0], delivery_id=name, **fields)


def test_the_delay_is_jittered_below_a_bound_that_doubles() -> None:
    for attempt, most_ms in (
        (0, SECOND), (1, SECOND), (2, 2 * SECOND), (4, 8 * SECOND), (7, MINUTE), (99, MINUTE),
        (10**9, MINUTE),
    ):  # fmt: skip
        delivery = a_delivery(attempt=attempt, epoch=3)
        assert retry.delay_ms(RULE, delivery) == 1 + jitter(f"d1/3/{attempt}", most_ms)
    endless = replace(RULE, delay_ms=1, delay_ms_max=1 << 50)
    doubled = [(attempt, 1 << min(attempt - 1, 40)) for attempt in range(36, 60)]
    for attempt, most_ms in doubled:
        delivery = a_delivery(attempt=attempt, epoch=0)
        assert retry.delay_ms(endless, delivery) == 1 + jitter(f"d1/0/{attempt}", most_ms)


def test_the_provider_can_ask_for_later_and_not_for_sooner() -> None:
    delivery = a_delivery()
    backoff_ms = retry.delay_ms(RULE, delivery)
    for after_ms, expected in (
        (None, T0 + backoff_ms),
        (0, T0 + backoff_ms),
        (HOUR, T0 - 5 + HOUR),
        (backoff_ms + 6, T0 + backoff_ms + 1),
    ):
        told = Feedback(delivery, "retry", "busy", after_ms, T0 - 5, NOWHERE)
        assert retry.due_ms(RULE, told, T0) == expected


def test_what_is_known_of_a_delivery() -> None:
    known = (
        Attempted("d1", 4, 2, T0 + 1),
        Attempted("d2", 0, 1, T0 + 1),
        Attempted("d3", 5, 0, T0 + 1),
    )
    assert retry.newest_of(known, "d2") == known[1]
    assert retry.newest_of(known, "d0") is None
    assert retry.first_epoch(known, "d1") == 5
    assert retry.first_epoch(known, "d2") == 1
    assert retry.first_epoch(known, "d3") == 6
    assert retry.first_epoch(known, "d9") == 0
    assert retry.first_epoch((), "d1") == 0


def test_an_answer_is_remembered_as_long_as_the_delivery_may_live() -> None:
    delivery = a_delivery(epoch=2, attempt=3)
    assert retry.note((), delivery, T0, 9) == (Attempted("d1", 2, 3, T0 + HOUR + 1, 0),)
    assert retry.note((), delivery, T0, 9, 4) == (Attempted("d1", 2, 3, T0 + HOUR + 1, 4),)
    late = retry.note((), delivery, T0 + 2 * HOUR, 9)
    assert late == (Attempted("d1", 2, 3, T0 + 2 * HOUR + 1, 0),), "at least for this moment"


def test_the_older_answer_and_the_forgotten_ones_go() -> None:
    known = (
        Attempted("d1", 0, 1, T0 + HOUR),
        Attempted("ended", 0, 1, T0),
        Attempted("lives", 0, 1, T0 + 1),
    )
    found = retry.note(known, a_delivery(epoch=1), T0, 9)
    assert [(one.delivery_id, one.epoch) for one in found] == [("lives", 0), ("d1", 1)]


def test_at_the_bound_the_longest_known_goes() -> None:
    known = tuple(Attempted(f"k{number}", 0, 1, T0 + HOUR) for number in range(3))
    for most, expected in (
        (5, ["k0", "k1", "k2", "d1"]),
        (4, ["k0", "k1", "k2", "d1"]),
        (3, ["k1", "k2", "d1"]),
        (2, ["k2", "d1"]),
        (1, ["d1"]),
    ):
        found = retry.note(known, a_delivery(), T0, most)
        assert [one.delivery_id for one in found] == expected
