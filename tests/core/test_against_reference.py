"""The core and the naive reference live the same random lives, and must decide the same.

A life is a random policy and any order of events, changes of mind, answers, receipts, waits,
restarts and replays. After each step the entries, deliveries and the next wake-up are compared,
and what must hold of any life is checked: ``lives.py`` says what.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from streams.core.model import PreferenceInput, Status
from streams.core.policy import Policy
from tests.core import strategies as some
from tests.core.build import HOUR, MINUTE
from tests.core.lives import Life
from tests.core.profiles import tries


class Lives(RuleBasedStateMachine):
    """One recipient, twice."""

    life: Life

    @initialize(policy=some.policies(), start_ms=st.sampled_from(some.STARTS), data=st.data())
    def born(self, policy: Policy, start_ms: int, data: st.DataObject) -> None:
        self.life = Life(policy, start_ms)
        for _ in range(data.draw(st.integers(1, 4))):
            self.life.registers(data.draw(some.destinations(self.life.now_ms)))
        if data.draw(st.booleans()):
            self.life.prefers(data.draw(some.preferences(self.life.now_ms)))

    @rule(data=st.data(), age_ms=st.sampled_from((0, 0, 0, MINUTE)))
    def event(self, data: st.DataObject, age_ms: int) -> None:
        self.life.gets(data.draw(some.events(self.life.now_ms)), age_ms)

    @rule(data=st.data())
    def several_events(self, data: st.DataObject) -> None:
        for _ in range(3):
            self.life.gets(data.draw(some.events(self.life.now_ms)), 0)

    @precondition(lambda self: self.life.inputs)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Any suffix of the events comes again."""
        self.life.replays(data.draw(st.integers(1, 4)))

    @rule(data=st.data())
    def preference(self, data: st.DataObject) -> None:
        self.life.prefers(data.draw(some.preferences(self.life.now_ms)))

    @rule()
    def reset(self) -> None:
        self.life.decides(PreferenceInput("ana", None, self.life.source()))

    @rule(data=st.data(), removed=st.booleans())
    def destination(self, data: st.DataObject, removed: bool) -> None:
        new = data.draw(some.destinations(self.life.now_ms))
        self.life.registers(new, removed)

    @rule(step_ms=st.sampled_from(some.STEPS_MS))
    def wait(self, step_ms: int) -> None:
        self.life.waits(step_ms)

    @rule()
    def wait_for_the_next(self) -> None:
        self.life.waits_for_the_next()

    @rule(step_ms=st.sampled_from(some.STEPS_MS))
    def sleep_through(self, step_ms: int) -> None:
        """Time passes and no wake-up comes: the next input finds everything due at once."""
        self.life.now_ms += step_ms

    @precondition(lambda self: self.life.deliveries)
    @rule(
        data=st.data(),
        status=st.sampled_from(
            ("retry", "retry", "rejected", "unregistered", "ambiguous", "stale", "killed")
        ),
        retry_after_ms=st.sampled_from((None, None, 10 * MINUTE)),
    )
    def answer(self, data: st.DataObject, status: Status, retry_after_ms: int | None) -> None:
        which = data.draw(st.integers(0, min(4, len(self.life.deliveries) - 1)))
        self.life.answers(self.life.deliveries[-1 - which], status, retry_after_ms)

    @precondition(lambda self: self.life.dead)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        self.life.redrives(data.draw(st.sampled_from(self.life.dead)))

    @precondition(lambda self: self.life.deliveries)
    @rule(
        data=st.data(),
        kind=st.sampled_from(
            ("seen", "seen", "clicked", "delivered", "bounced", "soft_bounced", "complained")
        ),
        named_by=st.sampled_from(("notification_id", "event_id", "delivery_id")),
    )
    def receipt(self, data: st.DataObject, kind: str, named_by: str) -> None:
        which = data.draw(st.integers(0, min(4, len(self.life.deliveries) - 1)))
        self.life.hears_of(self.life.deliveries[-1 - which], kind, named_by)

    @rule(
        kind=st.sampled_from(("unsubscribed", "business")),
        name=st.sampled_from(("all", "category:promo", "channel:email", "paid", None)),
    )
    def word(self, kind: str, name: str | None) -> None:
        if kind == "unsubscribed" and name == "paid":
            name = None
        self.life.hears(kind, name)

    @rule(
        event_id=st.sampled_from((None, *some.EVENT_IDS)),
        collapse_key=st.sampled_from((None, None, "score")),
    )
    def cancel(self, event_id: str | None, collapse_key: str | None) -> None:
        self.life.cancels(event_id, collapse_key)

    @rule(
        switch=st.sampled_from(
            ("all", "category:message", "campaign:spring", "kind:fcm", None, None, None)
        )
    )
    def kill_switch(self, switch: str | None) -> None:
        self.life.kills(switch)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "life"):
            self.life.check()

    def teardown(self) -> None:
        """Left alone, everything that waits comes to an end."""
        if hasattr(self, "life"):
            self.life.comes_to_rest(9 * 24 * HOUR)


Lives.TestCase.settings = tries(60, stateful_step_count=30)
TestLives = Lives.TestCase
