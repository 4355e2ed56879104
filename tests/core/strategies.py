"""Random policies, events and preferences, small enough that everything meets everything.

Everything is drawn through ``Pick``, "one of these": hypothesis draws to shrink what fails, a
seeded ``random`` draws ten times faster.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

from streams.core.model import Destination, Event, Preferences, Priority, QuietWindow
from streams.core.policy import Category, DigestRule, LimitRule, Policy, RetryRule
from tests.core.build import DAY, HOUR, MINUTE, SECOND, at

T = TypeVar("T")

STARTS = (at("2026-03-27 20:00"), at("2026-10-23 20:00"))
"""Days before changes of clocks in Lisbon, New York and Lord Howe."""
ZONES = ("UTC", "Europe/Lisbon", "Australia/Lord_Howe")
EVENT_IDS = tuple(f"e{number}" for number in range(80))
STEPS_MS = (0, 0, 1, 30 * SECOND, 5 * MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, 9 * HOUR, DAY)
PLACES = (("phone", "fcm"), ("tablet", "apns"), ("mail", "email"), ("mobile", "sms"))
WINDOWS = (
    (),
    (),
    (QuietWindow(22 * 60, 7 * 60),),
    (QuietWindow(90, 150), QuietWindow(12 * 60, 13 * 60, 0b0011111)),
    (QuietWindow(20 * 60, 8 * 60, 0b1100000),),
)


class Pick(Protocol):
    """Draws one of the things it is given."""

    def __call__(self, things: Sequence[T], /) -> T: ...


def by_hypothesis(data: st.DataObject) -> Pick:
    """Draws so that what fails can be made smaller."""

    def pick(things: Sequence[T], /) -> T:
        return data.draw(st.sampled_from(things))

    return pick


def by_seed(seed: int) -> Pick:
    """Draws fast; the seed says everything."""
    return random.Random(seed).choice


def seldom(pick: Pick, *things: T) -> T | None:
    """Mostly ``None``, sometimes one of the things."""
    return pick(things) if pick(range(12)) == 0 else None


def a_limit(pick: Pick) -> LimitRule:
    return LimitRule(
        pick(("recipient", "category", "channel", "destination")),
        pick((1, 2, 3)),
        pick((10 * MINUTE, HOUR, DAY)),
        pick(("drop", "defer", "digest")),
        pick(("", "", "push", "message")),
    )


def some_limits(pick: Pick) -> tuple[LimitRule, ...]:
    return tuple(a_limit(pick) for _ in range(pick((0, 0, 1, 2))))


def a_digest(pick: Pick) -> DigestRule | None:
    if pick((True, True, False)):
        return None
    return DigestRule(
        pick(("window", "lookback", "debounce", "calendar")),
        pick((10 * MINUTE, HOUR)),
        pick((30 * MINUTE, 5 * HOUR)),
        pick(((), ("08:00",), ("01:30", "18:00"))),
        pick(((), ("actor_id",), ("data.thread", "collapse_key"))),
        pick(("last", "first", "top")),
        pick((1, 2, 3)),
        pick((3, 100)),
        1_000_000,
        "data.points",
    )


def a_category(pick: Pick, name: str, priority: Priority, mandatory: bool) -> Category:
    return Category(
        name,
        priority=priority,
        mandatory=mandatory,
        default_on=pick((True, True, True, False)),
        channels=pick((("push", "email", "sms"), ("email", "push"), ("push",), ("sms", "push"))),
        default_off_channels=pick(((), ("sms",))),
        route=pick(("first", "all", "escalate")),
        escalate_after_ms=5 * MINUTE,
        escalate_until=("seen", "clicked", "paid"),
        digest=a_digest(pick),
        limits=some_limits(pick),
        quiet_action=pick(("hold", "drop", "downgrade", "digest")),
        downgrade_to=("email",),
        expires_after_ms=pick((HOUR, DAY, 3 * DAY)),
        on_ambiguous=pick(("resend", "give_up")),
        retry=RetryRule(pick((1, 3, 5)), 5 * SECOND, HOUR),
        requires=pick((*[()] * 7, ("points",))),
    )


def a_policy(pick: Pick) -> Policy:
    """Three categories: something critical, something ordinary, something that is pushed."""
    found = {
        "alert": a_category(pick, "alert", "critical", True),
        "message": a_category(pick, "message", "normal", False),
        "promo": a_category(pick, "promo", "bulk", False),
    }
    return Policy("test", found, some_limits(pick), release_jitter_ms=0, release_lead_ms=0)


def some_preferences(pick: Pick, now_ms: int) -> Preferences:
    """Choices of every kind; most of them leave most things on."""
    yes_or_no = pick((True, False))
    return Preferences(
        default=pick((*[None] * 6, True, False)),
        categories=pick(({}, {}, {"message": yes_or_no}, {"promo": True, "alert": False})),
        channels=pick(({}, {}, {"push": yes_or_no}, {"email": False})),
        cells=pick(({}, {}, {"message/push": yes_or_no}, {"promo/email": yes_or_no})),
        zone=pick(ZONES),
        quiet_hours=pick(WINDOWS),
        snooze_until_ms=pick((0, 0, 0, now_ms + HOUR)),
        muted=pick(((), (), ("actor:bob",), ("key:score", "actor:eve"), ("key:t1/",))),
        digests=pick(
            (
                {}, {}, {"message": "immediate"}, {"message": "hourly", "promo": "daily@08:00"},
                {"message": "daily@01:45"},
            )
        ),
        channel_order=pick(({}, {}, {"message": ("sms", "email")})),
        updated_at_ms=now_ms,
    )  # fmt: skip


def an_event(pick: Pick, now_ms: int) -> Event:
    """Events whose ids, actors and keys often repeat."""
    return Event(
        pick(EVENT_IDS),
        "ana",
        pick((*["message"] * 7, *["promo"] * 3, "alert", seldom(pick, "unknown") or "promo")),
        now_ms,
        pick(("", "bob", "eve", "joe")),
        pick(({}, {"thread": "t1", "points": "7"}, {"points": "12.5"})),
        pick((None, None, None, "normal", "bulk")),
        pick((None, None, None, "score", "price")),
        seldom(pick, now_ms + 30 * MINUTE, now_ms - 1),
        seldom(pick, now_ms + 2 * HOUR),
        seldom(pick, "09:00", "01:30"),
        seldom(pick, *EVENT_IDS[:20]),
        pick((None, None, "spring")),
    )


def a_destination(pick: Pick, now_ms: int) -> Destination:
    """Four places, whose addresses and registrations change."""
    name, kind = pick(PLACES)
    return Destination(
        name,
        kind,  # type: ignore[arg-type]
        pick((f"{name}-1", f"{name}-1", f"{name}-2")),
        now_ms - pick((0, 0, HOUR)),
    )
