"""Provider answers: retries within their limits, once each, re-checked; fallback; redrive."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.core.model import Channel, Delivery, Destination, QuietWindow, Status
from streams.core.policy import (
    Bounds,
    Category,
    DigestRule,
    LimitRule,
    QuietAction,
    RetryRule,
)
from tests.core.build import (
    DAY,
    HOUR,
    MAIL,
    MINUTE,
    MOBILE,
    PHONE,
    SECOND,
    T0,
    TABLET,
    Person,
    a_policy,
    at,
)

EACH: tuple[Channel, ...] = ("push", "email", "sms")


def sent_one(policy_category: Category | None = None, *more: Destination) -> Person:
    ana = Person(a_policy(policy_category or Category("message", channels=EACH)), PHONE, *more)
    ana.gets("e1")
    return ana


def test_a_retry_is_within_its_backoff_and_not_before_the_provider_said() -> None:
    delays = set()
    for number in range(40):
        ana = Person(a_policy(), PHONE)
        ana.gets(f"e{number}")
        ana.answers(ana.deliveries[0], "retry")
        until_ms = ana.entries[-1].until_ms
        assert until_ms is not None
        assert T0 < until_ms <= T0 + 5 * SECOND
        delays.add(until_ms)
    assert len(delays) > 30, "full jitter"
    ana = sent_one()
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=HOUR)
    assert ana.entries[-1].until_ms == T0 + HOUR
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "delivering retried"
    assert [d.attempt for d in ana.deliveries] == [1, 2]
    assert ana.deliveries[1].delivery_id == ana.deliveries[0].delivery_id
    assert ana.deliveries[1].decided_at_ms == T0 + HOUR


def test_backoff_doubles_up_to_its_maximum() -> None:
    rule = RetryRule(attempts_max=100, delay_ms=SECOND, delay_ms_max=MINUTE)
    longest: dict[int, int] = {}
    for number in range(60):
        ana = Person(a_policy(Category("message", retry=rule)), PHONE)
        ana.gets(f"e{number}")
        for attempt in (1, 3, 30):
            ana.answers(replace(ana.deliveries[0], attempt=attempt), "retry")
            waited = (ana.entries[-1].until_ms or 0) - T0
            longest[attempt] = max(longest.get(attempt, 0), waited)
    assert SECOND * 0.8 < longest[1] <= SECOND
    assert 4 * SECOND * 0.8 < longest[3] <= 4 * SECOND
    assert MINUTE * 0.8 < longest[30] <= MINUTE


def test_attempts_run_out_into_a_dead_letter_that_can_be_redriven() -> None:
    ana = sent_one(Category("message", retry=RetryRule(attempts_max=2)))
    ana.answers(ana.deliveries[-1], "retry")
    ana.waits_for(MINUTE)
    ana.answers(ana.deliveries[-1], "retry", "overloaded")
    assert ana.verdicts[-1] == "dead_lettered attempts_exhausted"
    (letter,) = ana.decisions[-1].dead_letters
    assert letter.delivery is not None
    raised = replace(letter.delivery, epoch=1, attempt=0)
    for _ in range(2):
        ana.answers(raised, "redrive")
    assert [(d.epoch, d.attempt) for d in ana.deliveries] == [(0, 1), (0, 2), (1, 1)]
    assert ana.verdicts[-1] == "delivering redriven"
    ana.answers(ana.deliveries[-1], "retry")
    assert ana.verdicts[-1] == "retrying retry_scheduled"


def test_what_no_provider_could_be_asked_for_is_kept_and_can_be_redriven() -> None:
    ana = sent_one()
    for _ in range(2):
        ana.answers(ana.deliveries[0], "rejected", "no_provider")
    assert [verdict for verdict in ana.verdicts if "no_provider" in verdict] == [
        "dead_lettered no_provider"
    ]
    letters = [letter for decision in ana.decisions for letter in decision.dead_letters]
    (letter,) = letters
    assert (letter.reason, letter.delivery) == ("no_provider", ana.deliveries[0])
    ana.answers(replace(ana.deliveries[0], epoch=1, attempt=0), "redrive")
    assert ana.verdicts[-1] == "delivering redriven"
    assert (ana.deliveries[-1].epoch, ana.deliveries[-1].attempt) == (1, 1)
    ana.answers(ana.deliveries[-1], "rejected", "no_provider")
    assert ana.verdicts[-1] == "dead_lettered no_provider", "still none: kept once more"


@pytest.mark.parametrize(
    "status", ["retry", "rejected", "unregistered", "ambiguous", "stale", "killed"]
)
def test_each_answer_is_dealt_with_once(status: Status) -> None:
    ana = sent_one(None, MAIL)
    for _ in range(3):
        ana.answers(ana.deliveries[0], status)
    assert sum(bool(decision.entries) for decision in ana.decisions) == 2


def test_an_older_answer_is_ignored_and_a_newer_one_takes_the_place_of_a_retry() -> None:
    ana = sent_one()
    first = ana.deliveries[0]
    ana.answers(replace(first, attempt=2), "retry")
    ana.answers(first, "retry")
    assert len(ana.state.waiting.retries) == 1
    ana.answers(replace(first, attempt=3), "retry")
    assert [retry.delivery.attempt for retry in ana.state.waiting.retries] == [3]
    ana.answers(replace(first, epoch=1, attempt=0), "redrive")
    assert not ana.state.waiting.retries


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("rejected", "dropped rejected"), ("killed", "dropped killed")],
)
def test_final_answers_end_it(status: Status, verdict: str) -> None:
    ana = sent_one()
    ana.answers(ana.deliveries[0], status)
    assert ana.verdicts[-1] == verdict
    assert ana.due_ms is None


def test_the_category_decides_about_the_ambiguous() -> None:
    again = sent_one()
    again.answers(again.deliveries[0], "ambiguous")
    assert again.verdicts[-1] == "retrying retry_scheduled"
    never = sent_one(Category("message", on_ambiguous="give_up"))
    never.answers(never.deliveries[0], "ambiguous")
    assert never.verdicts[-1] == "dropped ambiguous_given_up"


def test_a_retry_that_cannot_be_made_before_the_expiry_expires() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", expires_at_ms=T0 + HOUR)
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=HOUR)
    assert ana.verdicts[-1] == "expired expired"


def changed(ana: Person, what: str) -> None:
    """Something that stands against the next attempt."""
    if what == "opted_out":
        ana.prefers(channels={"push": False})
    elif what == "unsubscribed":
        ana.hears("unsubscribed", name="category:message")
    elif what == "soft_bounced":
        ana.hears("soft_bounced", destination_id="phone")
    elif what == "no_destination":
        ana.removes(PHONE)
    elif what == "killed":
        ana.policy = replace(ana.policy, kills=frozenset({"kind:fcm"}))
    elif what == "muted":
        ana.prefers(muted=("actor:bob",))


@pytest.mark.parametrize("status", ["retry", "stale"])
@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ("opted_out", "suppressed"),
        ("unsubscribed", "suppressed"),
        ("soft_bounced", "suppressed"),
        ("no_destination", "suppressed"),
        ("killed", "dropped"),
        ("muted", "suppressed"),
    ],
)
def test_every_rule_is_asked_again(status: Status, what: str, verdict: str) -> None:
    ana = Person(a_policy(Category("message", channels=EACH)), PHONE)
    ana.gets("e1", actor_id="bob")
    if status == "retry":
        ana.answers(ana.deliveries[0], status)
    changed(ana, what)
    if status == "stale":
        ana.answers(ana.deliveries[0], status)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == f"{verdict} {what}"
    assert len(ana.deliveries) == 1


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ("downgrade", "delivering retried"),
        ("digest", "retrying quiet_hours"),
        ("hold", "retrying quiet_hours"),
        ("drop", "dropped quiet_hours"),
    ],
)
def test_a_retry_by_night_goes_only_where_the_night_is_downgraded_to(
    action: QuietAction, verdict: str
) -> None:
    category = Category(
        "message", channels=("email",), quiet_action=action, downgrade_to=("email",)
    )
    night = (QuietWindow(22 * 60, 8 * 60),)
    ana = Person(a_policy(category), MAIL, now_ms=at("2026-03-10 21:59"), quiet_hours=night)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == verdict


def test_a_retry_waits_for_the_morning_and_keeps_its_number() -> None:
    night = (QuietWindow(22 * 60, 8 * 60),)
    ana = Person(a_policy(), PHONE, now_ms=at("2026-03-10 21:59"), quiet_hours=night)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "retrying quiet_hours"
    assert ana.entries[-1].until_ms == at("2026-03-11 08:00")
    ana.waits(at("2026-03-11 08:00"))
    assert [d.attempt for d in ana.deliveries] == [1, 2]
    other = Person(a_policy(), PHONE, now_ms=at("2026-03-10 21:59"), quiet_hours=night)
    other.gets("e1")
    other.waits_for(HOUR)
    other.answers(other.deliveries[0], "stale")
    assert other.verdicts[-1] == "retrying quiet_hours"
    other.prefers()
    assert [(d.epoch, d.attempt) for d in other.deliveries] == [(0, 1), (1, 1)]


def test_a_category_that_drops_at_night_drops_its_retries() -> None:
    night = (QuietWindow(22 * 60, 8 * 60),)
    dropping = Category("message", quiet_action="drop")
    ana = Person(a_policy(dropping), PHONE, now_ms=at("2026-03-10 21:59"), quiet_hours=night)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "retry", retry_after_ms=5 * MINUTE)
    ana.waits_for(HOUR)
    assert ana.verdicts[-1] == "dropped quiet_hours"


def test_what_is_stale_is_decided_again_but_not_for_ever() -> None:
    ana = Person(a_policy(bounds=Bounds(stale_max=3)), PHONE)
    ana.gets("e1")
    for _ in range(4):
        ana.waits_for(20 * MINUTE)
        ana.answers(ana.deliveries[-1], "stale")
    assert [d.epoch for d in ana.deliveries] == [0, 1, 2, 3]
    assert ana.verdicts[-1] == "dead_lettered stale_exhausted"
    (letter,) = ana.decisions[-1].dead_letters
    assert letter.delivery is not None
    ana.answers(replace(letter.delivery, epoch=9, attempt=0), "redrive")
    ana.answers(ana.deliveries[-1], "stale")
    assert ana.verdicts[-1] == "delivering decided_again", "a redrive starts counting anew"


def test_a_retry_goes_to_the_address_of_today() -> None:
    ana = sent_one()
    ana.answers(ana.deliveries[0], "retry")
    ana.registers(replace(PHONE, address="token-9", registered_at_ms=T0))
    ana.waits_for(MINUTE)
    assert ana.deliveries[1].address == "token-9"
    assert ana.deliveries[1].delivery_id == ana.deliveries[0].delivery_id


def test_an_unregistered_address_is_forgotten_and_another_channel_tried() -> None:
    ana = sent_one(None, MAIL)
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[1:] == ["noted destination_removed", "delivering fallback"]
    assert ana.sent == [("e1", "push"), ("e1", "email")]
    assert [d.destination_id for d in ana.state.profile.destinations] == ["mail"]


def test_an_address_registered_after_the_answer_stays() -> None:
    ana = sent_one()
    ana.registers(replace(PHONE, address="token-9", registered_at_ms=T0 + 1))
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[-1] == "suppressed unregistered"
    assert ana.state.profile.destinations[0].address == "token-9"
    same = sent_one()
    same.registers(replace(PHONE, registered_at_ms=T0 + 1))
    same.answers(same.deliveries[0], "unregistered")
    assert len(same.state.profile.destinations) == 1


def test_without_another_channel_it_is_over() -> None:
    ana = sent_one()
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[-1] == "suppressed no_destination"


def test_two_lost_devices_fall_back_once() -> None:
    ana = Person(a_policy(Category("message", channels=EACH)), PHONE, TABLET, MAIL)
    ana.gets("e1")
    to_phone, to_tablet = sorted(ana.deliveries, key=lambda d: d.destination_id)
    ana.removes(TABLET)
    ana.answers(to_phone, "unregistered")
    ana.answers(to_tablet, "unregistered")
    assert ana.sent == [("e1", "push"), ("e1", "push"), ("e1", "email")]
    assert ana.verdicts[-1] == "suppressed unregistered"


def test_a_sibling_on_the_channel_makes_a_fallback_needless() -> None:
    ana = Person(a_policy(Category("message", channels=EACH)), PHONE, TABLET, MAIL)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.verdicts[-1] == "suppressed unregistered"
    assert len(ana.sent) == 2


def test_a_fallback_is_the_same_notification_for_limits_and_digests() -> None:
    limit = LimitRule("recipient", 1, DAY, "drop")
    lookback = Category("message", channels=EACH, digest=DigestRule("lookback"), limits=(limit,))
    ana = Person(a_policy(lookback), PHONE, MAIL, MOBILE)
    ana.gets("e1")
    ana.answers(ana.deliveries[0], "unregistered")
    assert ana.sent == [("e1", "push"), ("e1", "email")]


def test_too_many_retries_are_dead_letters_not_losses() -> None:
    ana = Person(a_policy(bounds=Bounds(retries_max=1)), PHONE)
    for name in ("e1", "e2"):
        ana.gets(name)
    for delivery in ana.deliveries:
        ana.answers(delivery, "retry")
    assert ana.verdicts[-1] == "dead_lettered retries_overflow"
    assert isinstance(ana.decisions[-1].dead_letters[0].delivery, Delivery)


def test_an_event_accepted_again_after_the_horizon_starts_a_new_epoch() -> None:
    ana = sent_one(Category("message", retry=RetryRule(attempts_max=1)))
    ana.answers(ana.deliveries[0], "retry")
    old = ana.decisions[-1].dead_letters[0].delivery
    assert old is not None
    ana.waits_for(2 * DAY)
    ana.gets("e1")
    assert ana.deliveries[-1].epoch == 1
    ana.answers(replace(old, epoch=1, attempt=0), "redrive")
    assert len(ana.deliveries) == 2, "the redrive came too late"
    ana.answers(ana.deliveries[-1], "rejected")
    assert ana.verdicts[-1] == "dropped rejected"
