"""Short ways to say what happens to a recipient, and a recipient to whom it happens.

``Person`` keeps the state between decisions, checks after each of them what must hold of any
decision (arguments unchanged, the encoded state decodes to itself, the wake-up is the earliest
due time), and remembers what came out.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from streams.core import state_codec
from streams.core.decide import decide
from streams.core.model import (
    Cancellation,
    Decision,
    Delivery,
    Destination,
    DestinationInput,
    Entry,
    Event,
    EventInput,
    Feedback,
    Input,
    Kind,
    PreferenceInput,
    Preferences,
    Receipt,
    RecipientState,
    Source,
    Status,
    Wake,
)
from streams.core.policy import Category, Policy
from streams.core.reasons import REASONS, sentence

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_772_366_400_000
"""Sunday 2026-03-01, 12:00 UTC."""

NOWHERE = Source("test", 0, 0, T0)
PHONE = Destination("phone", "fcm", "token-1", T0 - DAY)
TABLET = Destination("tablet", "apns", "token-2", T0 - DAY)
MAIL = Destination("mail", "email", "ana@example.test", T0 - DAY)
MOBILE = Destination("mobile", "sms", "+351912345678", T0 - DAY)


def at(text: str, zone: str = "UTC") -> int:
    """Local time such as ``2026-03-29 01:30`` -> Unix ms (of a repeated time the first)."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def a_policy(*categories: Category, **fields: Any) -> Policy:
    """A policy with these categories and no jitter, unless asked for."""
    named = {category.name: category for category in categories or (Category("message"),)}
    return Policy("test-1", named, **{"release_jitter_ms": 0, "release_lead_ms": 0, **fields})


class Person:
    """One recipient under one policy, at a clock that the test moves."""

    def __init__(
        self,
        policy: Policy,
        *destinations: Destination,
        now_ms: int = T0,
        **preferences: Any,
    ) -> None:
        self.policy = policy
        self.now_ms = now_ms
        self.state = RecipientState("ana", 1)
        self.due_ms: int | None = None
        self.entries: list[Entry] = []
        self.deliveries: list[Delivery] = []
        self.decisions: list[Decision] = []
        self._offsets = itertools.count()
        for destination in destinations:
            self.registers(destination)
        if preferences:
            self.prefers(**preferences)
        self.forget_effects()

    # ------------------------------------------------------------------------------- what happens

    def gets(self, event_id: str, category: str = "message", **fields: Any) -> Decision:
        """An event arrives, just appended."""
        fields = {"created_at_ms": self.now_ms, **fields}
        return self.decides(EventInput(Event(event_id, "ana", category, **fields), self.source()))

    def prefers(self, *, replaces: str | None = None, **fields: Any) -> Decision:
        """The recipient's preferences are now these, if they still are what ``replaces`` says."""
        chosen = Preferences(**{"updated_at_ms": self.now_ms, **fields})
        return self.decides(PreferenceInput("ana", chosen, self.source(), replaces))

    def registers(self, destination: Destination) -> Decision:
        change = DestinationInput(
            "ana", destination, False, destination.registered_at_ms, self.source()
        )
        return self.decides(change)

    def removes(self, destination: Destination, at_ms: int | None = None) -> Decision:
        when = self.now_ms if at_ms is None else at_ms
        return self.decides(DestinationInput("ana", destination, True, when, self.source(), "gone"))

    def hears(self, kind: Any, **fields: Any) -> Decision:
        """A receipt arrives; what is not said is unknown."""
        known = dict.fromkeys(
            ("notification_id", "delivery_id", "event_id", "destination_id", "name")
        )
        fields = {**known, "occurred_at_ms": self.now_ms, "source": self.source(), **fields}
        return self.decides(Receipt("ana", kind, **fields))

    def cancels(self, event_id: str | None = None, collapse_key: str | None = None) -> Decision:
        request = Cancellation("ana", event_id, collapse_key, self.now_ms, self.source())
        return self.decides(request)

    def answers(
        self,
        delivery: Delivery,
        status: Status,
        reason: str = "answer",
        retry_after_ms: int | None = None,
    ) -> Decision:
        """A sink's answer to a delivery."""
        source = self.source()
        return self.decides(Feedback(delivery, status, reason, retry_after_ms, self.now_ms, source))

    def wakes(self) -> Decision:
        return self.decides(Wake("ana"))

    def waits(self, until_ms: int) -> None:
        """Time passes; every wake-up that is due on the way happens at its time."""
        while self.due_ms is not None and self.due_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.due_ms)
            self.wakes()
        self.now_ms = until_ms

    def waits_for(self, ms: int) -> None:
        self.waits(self.now_ms + ms)

    # ------------------------------------------------------------------------------------- checks

    def decides(self, entered: Input) -> Decision:
        """One decision, with the checks that hold for any."""
        state_before = encoded(self.state)
        input_before = msgspec.msgpack.encode(entered)
        decision = decide(self.state, entered, self.now_ms, self.policy)
        again = decide(self.state, entered, self.now_ms, self.policy)
        assert encoded_decision(decision) == encoded_decision(again), "not deterministic"
        assert encoded(self.state) == state_before, "the state that came in was changed"
        assert msgspec.msgpack.encode(entered) == input_before, "the input was changed"
        assert restarted(decision.state) == decision.state, "the state does not survive a restart"
        assert decision.notify_at_ms == state_codec.next_due_ms(decision.state.waiting)
        for entry in decision.entries:
            assert entry.rule == REASONS[entry.reason].rule
            text = sentence(entry.reason, entry.inputs)
            assert "[" not in text, f"{entry.reason} lacks an input: {text}"
        self.state = decision.state
        self.due_ms = decision.notify_at_ms
        self.entries += decision.entries
        self.deliveries += decision.deliveries
        self.decisions.append(decision)
        return decision

    def source(self) -> Source:
        return Source("test", 1, next(self._offsets), self.now_ms)

    def forget_effects(self) -> None:
        """Looks only at what comes from now on."""
        self.entries, self.deliveries, self.decisions = [], [], []

    @property
    def verdicts(self) -> list[str]:
        """``verdict reason`` of each entry so far."""
        return [f"{entry.verdict} {entry.reason}" for entry in self.entries]

    @property
    def sent(self) -> list[tuple[str, str]]:
        """(event id or ``digest``, channel) of each delivery so far."""
        return [(d.event_id or "digest", d.channel) for d in self.deliveries]


def encoded(state: RecipientState) -> tuple[bytes | None, bytes | None]:
    """The state as it is stored."""
    return (
        state_codec.encode_profile(state.profile),
        state_codec.encode_moving(state.activity, state.waiting),
    )


def restarted(state: RecipientState) -> RecipientState:
    """The state after it was stored and read back."""
    profile, moving = encoded(state)
    return RecipientState(
        state.recipient_id,
        state.partition,
        state_codec.decode_profile(profile),
        *state_codec.decode_moving(moving),
    )


def encoded_decision(decision: Decision) -> bytes:
    """All of a decision, for comparing byte by byte."""
    return msgspec.msgpack.encode(decision)


def on(kind: Kind, destination_id: str, address: str = "somewhere") -> Destination:
    """A destination registered a day before the tests start."""
    return Destination(destination_id, kind, address, T0 - DAY)
