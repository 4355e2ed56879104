"""Random policies, events and preferences, small enough that everything meets everything."""

from __future__ import annotations

from hypothesis import strategies as st

from streams.core.model import Destination, Event, Preferences, QuietWindow
from streams.core.policy import Category, DigestRule, LimitRule, Policy, RetryRule
from tests.core.build import DAY, HOUR, MINUTE, SECOND, at

STARTS = (at("2026-03-27 20:00"), at("2026-10-23 20:00"))
"""Days before changes of clocks in Lisbon, New York and Lord Howe."""
ZONES = ("UTC", "Europe/Lisbon", "Australia/Lord_Howe")
CHANNELS = ("push", "email", "sms")
EVENT_IDS = tuple(f"e{number}" for number in range(40))
ACTORS = ("", "bob", "eve", "joe")
COLLAPSE = (None, None, None, "score", "price")
CATEGORIES = (*["message"] * 7, *["promo"] * 3, "alert", "unknown")
NOTHING = (None,) * 12
STEPS_MS = (0, 0, 1, 30 * SECOND, 5 * MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, 9 * HOUR, DAY)

windows = st.sampled_from(
    (
        (),
        (QuietWindow(22 * 60, 7 * 60),),
        (QuietWindow(90, 150), QuietWindow(12 * 60, 13 * 60, 0b0011111)),
        (QuietWindow(20 * 60, 8 * 60, 0b1100000),),
    )
)
limits = st.builds(
    LimitRule,
    st.sampled_from(("recipient", "category", "channel", "destination")),
    st.integers(1, 3),
    st.sampled_from((10 * MINUTE, HOUR, DAY)),
    st.sampled_from(("drop", "defer", "digest")),
    st.sampled_from(("", "", "push", "message")),
)
digests = st.one_of(
    st.none(),
    st.builds(
        DigestRule,
        st.sampled_from(("window", "lookback", "debounce", "calendar")),
        st.sampled_from((10 * MINUTE, HOUR)),
        st.sampled_from((30 * MINUTE, 5 * HOUR)),
        st.sampled_from(((), ("08:00",), ("01:30", "18:00"))),
        st.sampled_from(((), ("actor_id",), ("data.thread", "collapse_key"))),
        st.sampled_from(("last", "first", "top")),
        st.integers(1, 3),
        st.sampled_from((3, 100)),
        st.just(1_000_000),
        st.just("data.points"),
    ),
)
some_limits = st.lists(limits, max_size=2).map(tuple)
channel_orders = st.sampled_from(
    (("push", "email", "sms"), ("email", "push"), ("push",), ("sms", "push"))
)
switches = st.dictionaries(
    st.sampled_from(("message", "promo", "alert")), st.booleans(), max_size=2
)


@st.composite
def categories(draw: st.DrawFn, name: str, priority: str, mandatory: bool) -> Category:
    """A category of random rules."""
    return Category(
        name,
        priority=priority,  # type: ignore[arg-type]
        mandatory=mandatory,
        default_on=draw(st.sampled_from((True, True, True, False))),
        channels=draw(channel_orders),  # type: ignore[arg-type]
        default_off_channels=draw(st.sampled_from(((), ("sms",)))),
        route=draw(st.sampled_from(("first", "all", "escalate"))),
        escalate_after_ms=5 * MINUTE,
        escalate_until=("seen", "clicked", "paid"),
        digest=draw(digests),
        limits=draw(some_limits),
        quiet_action=draw(st.sampled_from(("hold", "drop", "downgrade", "digest"))),
        downgrade_to=("email",),
        expires_after_ms=draw(st.sampled_from((HOUR, DAY, 3 * DAY))),
        on_ambiguous=draw(st.sampled_from(("resend", "give_up"))),
        retry=RetryRule(draw(st.integers(1, 3)), 5 * SECOND, HOUR),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Three categories: something critical, something ordinary, something that is pushed."""
    found = {
        "alert": draw(categories("alert", "critical", True)),
        "message": draw(categories("message", "normal", False)),
        "promo": draw(categories("promo", "bulk", False)),
    }
    return Policy("test", found, draw(some_limits), release_jitter_ms=0)


@st.composite
def preferences(draw: st.DrawFn, now_ms: int) -> Preferences:
    """Choices of every kind; most of them leave most things on."""
    return Preferences(
        default=draw(st.sampled_from((None, None, None, True, False))),
        categories=draw(st.one_of(st.just({}), switches)),
        channels=draw(
            st.one_of(
                st.just({}), st.dictionaries(st.sampled_from(CHANNELS), st.booleans(), max_size=1)
            )
        ),
        cells=draw(
            st.one_of(
                st.just({}),
                st.dictionaries(
                    st.sampled_from(("message/push", "promo/email")), st.booleans(), max_size=1
                ),
            )
        ),
        zone=draw(st.sampled_from(ZONES)),
        quiet_hours=draw(windows),
        snooze_until_ms=draw(st.sampled_from((0, 0, 0, now_ms + HOUR))),
        muted=draw(
            st.sampled_from(((), (), ("actor:bob",), ("key:score", "actor:eve"), ("key:t1/",)))
        ),
        digests=draw(
            st.one_of(
                st.just({}),
                st.dictionaries(
                    st.sampled_from(("message", "promo")),
                    st.sampled_from(("immediate", "hourly", "daily@08:00", "daily@01:45")),
                    max_size=1,
                ),
            )
        ),
        channel_order=draw(st.sampled_from(({}, {}, {"message": ("sms", "email")}))),
        updated_at_ms=now_ms,
    )


@st.composite
def events(draw: st.DrawFn, now_ms: int) -> Event:
    """Events whose ids, actors and keys often repeat."""
    return Event(
        draw(st.sampled_from(EVENT_IDS)),
        "ana",
        draw(st.sampled_from(CATEGORIES)),
        now_ms,
        draw(st.sampled_from(ACTORS)),
        draw(st.sampled_from(({}, {"thread": "t1", "points": "7"}, {"points": "12.5"}))),
        draw(st.sampled_from((None, None, None, "normal", "bulk"))),
        draw(st.sampled_from(COLLAPSE)),
        draw(st.sampled_from((*NOTHING, now_ms + 30 * MINUTE, now_ms - 1))),
        draw(st.sampled_from((*NOTHING, now_ms + 2 * HOUR))),
        draw(st.sampled_from((*NOTHING, "09:00", "01:30"))),
        draw(st.sampled_from((*NOTHING, "e1", "e2"))),
        draw(st.sampled_from((None, None, "spring"))),
    )


@st.composite
def destinations(draw: st.DrawFn, now_ms: int) -> Destination:
    """Four places, whose addresses and registrations change."""
    name, kind = draw(
        st.sampled_from(
            (("phone", "fcm"), ("tablet", "apns"), ("mail", "email"), ("mobile", "sms"))
        )
    )
    return Destination(
        name,
        kind,  # type: ignore[arg-type]
        draw(st.sampled_from((f"{name}-1", f"{name}-1", f"{name}-2"))),
        now_ms - draw(st.sampled_from((0, 0, HOUR))),
    )
