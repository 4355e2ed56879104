"""What can happen next in a random life. Each step draws what it needs through ``Pick``."""

from __future__ import annotations

from collections.abc import Callable

from streams.core.model import PreferenceInput, Status
from tests.core import strategies as some
from tests.core.build import MINUTE
from tests.core.lives import Life
from tests.core.strategies import Pick

ANSWERS: tuple[Status, ...] = (
    "retry", "retry", "retry", "retry", "rejected", "unregistered", "unregistered", "ambiguous",
    "stale", "killed",
)  # fmt: skip
RECEIPTS = (
    *["seen"] * 4, "clicked", "delivered", *["soft_bounced"] * 3, "bounced", "complained",
)  # fmt: skip


def born(pick: Pick) -> Life:
    """A recipient with some addresses, perhaps with preferences."""
    life = Life(some.a_policy(pick), pick(some.STARTS))
    for _ in range(pick((1, 2, 4, 4))):
        life.registers(some.a_destination(pick, life.now_ms))
    if pick((True, False)):
        life.prefers(some.some_preferences(pick, life.now_ms))
    return life


def event(life: Life, pick: Pick) -> None:
    life.gets(some.an_event(pick, life.now_ms), pick((0, 0, 0, MINUTE)))


def several_events(life: Life, pick: Pick) -> None:
    for _ in range(3):
        life.gets(some.an_event(pick, life.now_ms), 0)


def replay(life: Life, pick: Pick) -> None:
    """Any suffix of the events comes again."""
    life.replays(pick((1, 2, 3, 10)))


def preference(life: Life, pick: Pick) -> None:
    life.prefers(some.some_preferences(pick, life.now_ms))


def reset(life: Life, pick: Pick) -> None:
    """Preferences are as if never said; now and then."""
    if pick((True, False)):
        life.decides(PreferenceInput("ana", None, life.source()))


def destination(life: Life, pick: Pick) -> None:
    life.registers(some.a_destination(pick, life.now_ms), removed=pick((False, False, True)))


def wait(life: Life, pick: Pick) -> None:
    life.waits(pick(some.STEPS_MS))


def wait_for_the_next(life: Life, pick: Pick) -> None:
    del pick
    life.waits_for_the_next()


def sleep_through(life: Life, pick: Pick) -> None:
    """Time passes and no wake-up comes: the next input finds everything due at once."""
    life.now_ms += pick(some.STEPS_MS)


def answer(life: Life, pick: Pick) -> None:
    if life.deliveries:
        delivery = pick(life.deliveries[-5:])
        status, retry_after_ms = pick(ANSWERS), pick((None, None, 10 * MINUTE))
        life.answers(delivery, status, retry_after_ms, pick(("answer", "answer", "no_provider")))


def redrive(life: Life, pick: Pick) -> None:
    if life.dead:
        life.redrives(pick(life.dead))


def receipt(life: Life, pick: Pick) -> None:
    if life.deliveries:
        named_by = pick(("notification_id", "event_id", "delivery_id"))
        life.hears_of(pick(life.deliveries[-5:]), pick(RECEIPTS), named_by)


def word(life: Life, pick: Pick) -> None:
    kind, name = pick(
        (
            ("business", "paid"), ("business", "paid"), ("business", "paid"), ("business", "paid"),
            ("business", "signed"), ("business", "paid"), ("business", "paid"),
            ("unsubscribed", "category:promo"), ("unsubscribed", "channel:email"),
            ("unsubscribed", None), ("unsubscribed", "cell:promo/email"),
        )
    )  # fmt: skip
    life.hears(kind, name)


def cancel(life: Life, pick: Pick) -> None:
    life.cancels(
        *pick(((pick(some.EVENT_IDS), None), (None, "score"), (pick(some.EVENT_IDS),) * 2))
    )


def kill_switch(life: Life, pick: Pick) -> None:
    named = ("all", "category:message", "campaign:spring", "campaign:spring", "kind:fcm")
    switches = (*named, *[None] * 8)
    life.kills(pick(switches))


Step = Callable[[Life, Pick], None]
STEPS: tuple[Step, ...] = (
    event, event, event, several_events, several_events, replay, preference, reset, destination,
    wait, wait, wait_for_the_next, wait_for_the_next, sleep_through, *[answer] * 4, redrive,
    receipt, word, cancel, kill_switch,
)  # fmt: skip
