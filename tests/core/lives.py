"""A recipient who lives twice: once in the core, once in the reference.

What is checked after every step, besides that both agree:

- the arguments are unchanged, the state survives a restart (``build.Person``);
- one try of a delivery, (id, epoch, attempt), is handed over at most once;
- nothing is sent to an address that is not the recipient's, nor after its expiry;
- an event whose latest verdict says that it waits does wait, until then, and nothing else does.
"""

from __future__ import annotations

import random
from collections import Counter

from msgspec.structs import replace

from streams.core import ids
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
    PreferenceInput,
    Preferences,
    Receipt,
    RecipientState,
    Source,
    Status,
    Wake,
)
from streams.core.policy import Policy
from tests.core.build import DAY, Person, restarted
from tests.core.reference.nouns import Leaves, Told
from tests.core.reference_model import Reference

WITH_TIME = ("held", "digested", "retrying")
REMARKS = ("destination_removed", "suppression_added", "suppression_lifted")
"""Notes about the recipient, not about a subject."""
ASIDES = ("too_late_to_cancel", "cancel_remembered", "escalation_ended", "retry_ended")
"""Notes that leave a subject where it stands."""
AGAIN = ("retried", "decided_again", "redriven")
"""Deliveries that are one try of many."""


class Life:
    """Drives both with the same inputs and compares."""

    def __init__(self, policy: Policy, start_ms: int) -> None:
        self.person = Person(policy, now_ms=start_ms)
        self.reference = Reference(policy, start_ms)
        self.reference.subject_of = self._subject_of
        self.reference.notification_id = self._notification_id
        self.reference.delivery_id = self._delivery_id
        self.ends_ms = start_ms + 9 * DAY
        self.inputs: list[EventInput] = []
        self.deliveries: list[Delivery] = []
        self.dead: list[Delivery] = []
        self.handed_over: Counter[tuple[str, int, int, int]] = Counter()
        """(delivery id, epoch, attempt, how often its event id was accepted): how often."""
        self.latest: dict[str, Entry] = {}
        self._digest_names: dict[str, str] = {}

    # --------------------------------------------------------------------------------------- inputs

    @property
    def now_ms(self) -> int:
        return self.person.now_ms

    @now_ms.setter
    def now_ms(self, value: int) -> None:
        self.person.now_ms = min(value, self.ends_ms)

    def source(self) -> Source:
        return self.person.source()

    def gets(self, event: Event, age_ms: int) -> None:
        source = replace(self.source(), appended_at_ms=self.now_ms - age_ms)
        entered = EventInput(event, source)
        self.inputs.append(entered)
        self.decides(entered)

    def replays(self, count: int) -> None:
        for entered in self.inputs[-count:]:
            self.decides(entered)

    def prefers(self, chosen: Preferences) -> None:
        self.decides(PreferenceInput("ana", chosen, self.source()))

    def registers(self, destination: Destination, removed: bool = False) -> None:
        change = DestinationInput("ana", destination, removed, self.now_ms, self.source(), "gone")
        self.decides(change)

    def answers(
        self,
        delivery: Delivery,
        status: Status,
        retry_after_ms: int | None,
        reason: str = "answer",
    ) -> None:
        self.decides(Feedback(delivery, status, reason, retry_after_ms, self.now_ms, self.source()))

    def redrives(self, delivery: Delivery) -> None:
        raised = replace(delivery, epoch=delivery.epoch + 1, attempt=0)
        for _ in range(2):
            self.answers(raised, "redrive", None)

    def hears_of(self, delivery: Delivery, kind: str, named_by: str) -> None:
        known = dict.fromkeys(("notification_id", "delivery_id", "event_id"), None)
        known[named_by] = getattr(delivery, named_by)
        receipt = Receipt(
            "ana", kind, **known, destination_id=delivery.destination_id, name=None,  # type: ignore[arg-type]
            occurred_at_ms=self.now_ms, source=self.source(),
        )  # fmt: skip
        for _ in range(2):
            self.decides(receipt)

    def hears(self, kind: str, name: str | None) -> None:
        self.decides(
            Receipt("ana", kind, None, None, None, None, name, self.now_ms, self.source())  # type: ignore[arg-type]
        )

    def cancels(self, event_id: str | None, collapse_key: str | None) -> None:
        request = Cancellation("ana", event_id, collapse_key, self.now_ms, self.source())
        for _ in range(2):
            self.decides(request)

    def kills(self, switch: str | None) -> None:
        kills = frozenset() if switch is None else frozenset({switch})
        self.person.policy = replace(self.person.policy, kills=kills)
        self.reference.policy = self.person.policy

    def waits(self, step_ms: int) -> None:
        until_ms = min(self.now_ms + step_ms, self.ends_ms)
        while self.person.due_ms is not None and self.person.due_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.person.due_ms)
            self.decides(Wake("ana"))
        self.now_ms = until_ms

    def waits_for_the_next(self) -> None:
        if self.person.due_ms is not None:
            self.waits(max(0, self.person.due_ms - self.now_ms))

    def comes_to_rest(self) -> None:
        """Nothing waits for ever."""
        self.ends_ms += 9 * DAY
        for _ in range(500):
            if self.person.due_ms is None:
                return
            self.now_ms = max(self.now_ms, self.person.due_ms)
            assert self.now_ms < self.ends_ms, "something waits too long"
            self.decides(Wake("ana"))
        raise AssertionError("it never comes to rest")

    # -------------------------------------------------------------------------------------- compare

    def decides(self, entered: Input) -> None:
        before = self.person.state.profile.destinations
        decision = self.person.decides(entered)
        self._learn_digests(decision)
        retries = {
            (self._subject(entry), sent.channel, sent.destination_id): entry.until_ms
            for entry in decision.entries
            if entry.reason == "retry_scheduled"
            for sent in entry.deliveries
        }
        self.reference.due_of_retry = lambda *name: retries.get(name)
        told, leaves = self.reference.step(entered, self.now_ms)
        expected = Counter(_comparable(one) for one in told)
        found = Counter(_comparable(self._told(entry)) for entry in decision.entries)
        assert found == expected, f"only core {found - expected}, only reference {expected - found}"
        assert [self._leaves(delivery) for delivery in decision.deliveries] == leaves
        assert decision.notify_at_ms == self.reference.next_due_ms
        self._remember(decision, before)

    def check(self) -> None:
        """What holds of any life, and a restart between any two steps."""
        assert max(self.handed_over.values(), default=1) == 1, "a try was handed over twice"
        self.person.state = restarted(self.person.state)
        _waiting_is_told(self.person.state, self.latest)

    def _remember(self, decision: Decision, before: tuple[Destination, ...]) -> None:
        known = {d.address for d in (*before, *self.person.state.profile.destinations)}
        for delivery in decision.deliveries:
            lives = sum(known == delivery.event_id for known, _, _ in self.reference.accepted)
            name = (delivery.delivery_id, delivery.epoch, delivery.attempt, lives)
            self.handed_over[name] += 1
            assert delivery.expires_at_ms > self.now_ms
            assert self.now_ms < delivery.valid_until_ms <= delivery.expires_at_ms
            assert delivery.address in known
        self.deliveries += decision.deliveries
        self.dead += [letter.delivery for letter in decision.dead_letters if letter.delivery]
        for entry in decision.entries:
            if _is_about_subject(entry):
                self.latest[entry.subject_id] = entry

    # ---------------------------------------------------------------------------------------- names

    def _learn_digests(self, decision: Decision) -> None:
        for entry in decision.entries:
            if entry.verdict == "digested" and entry.digest_id is not None:
                self._digest_names.setdefault(entry.digest_id, f"digest-{len(self._digest_names)}")

    def _subject(self, entry: Entry) -> str:
        if entry.reason in REMARKS:
            return "*"
        if entry.event_id is not None:
            return entry.event_id
        return self._digest_names.get(entry.subject_id, "*")

    def _subject_of(self, delivery: Delivery) -> str:
        return delivery.event_id or self._digest_names[delivery.notification_id]

    def _notification_id(self, subject: str) -> str:
        for digest_id, name in self._digest_names.items():
            if name == subject:
                return digest_id
        return ids.to_id(1, ids.event_digest(subject, "ana"))

    def _delivery_id(self, subject: str, channel: str, destination: str, step: int) -> str:
        return ids.delivery_id(1, self._notification_id(subject), channel, destination, step)

    def _told(self, entry: Entry) -> Told:
        return Told(self._subject(entry), entry.verdict, entry.reason, entry.until_ms)

    def _leaves(self, delivery: Delivery) -> Leaves:
        return Leaves(
            self._subject_of(delivery), delivery.channel, delivery.destination_id,
            delivery.address, delivery.step, delivery.attempt, delivery.epoch, delivery.count,
            delivery.actors, tuple(item.event_id for item in delivery.items),
            delivery.valid_until_ms, delivery.expires_at_ms, delivery.priority,
        )  # fmt: skip


def _comparable(told: Told) -> tuple[str, str, str, int | None]:
    until_ms = told.until_ms if told.verdict in WITH_TIME else None
    return told.subject, told.verdict, told.reason, until_ms


def _is_about_subject(entry: Entry) -> bool:
    """Does it say where the subject stands? Not: repeats, remarks, single deliveries of it."""
    if entry.verdict in ("duplicate", "conflict") or entry.reason in AGAIN:
        return False
    if entry.verdict == "noted":
        return entry.reason not in (*REMARKS, *ASIDES)
    return entry.verdict == "delivering" or not entry.deliveries


def _waiting_is_told(state: RecipientState, latest: dict[str, Entry]) -> None:
    """What waits was told so last, with its time; what was told to be held is there."""
    held = {h.notification.notification_id: h for h in state.waiting.held if not h.step}
    for subject_id in held:
        entry = latest[subject_id]
        assert entry.verdict == "held", f"{subject_id} is held, and {entry.verdict} was said"
    for subject_id, entry in latest.items():
        if entry.verdict == "held":
            steps = {h.notification.notification_id for h in state.waiting.held}
            assert subject_id in held or subject_id in steps, f"{subject_id} is lost"
    open_digests = {digest.digest_id for digest in state.waiting.digests}
    for entry in latest.values():
        if entry.verdict == "digested" and entry.digest_id in open_digests:
            members = next(
                d.members for d in state.waiting.digests if d.digest_id == entry.digest_id
            )
            assert ids.hash8(entry.event_id or "") in members


def shuffled(things: list[Input], seed: int) -> list[Input]:
    """The same things in an order that the seed decides."""
    again = list(things)
    random.Random(seed).shuffle(again)
    return again
