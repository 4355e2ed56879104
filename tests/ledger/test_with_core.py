"""The derived states against the decision core's own memory, over random lives of recipients.

The core says what it still waits for (held, digests, retries, escalations); the test plays the
providers. An event must be open exactly when one of them still holds something of it, and must say
what that is; ended otherwise, in exactly one way.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from streams import topics
from streams.codec import Codec
from streams.core import ids
from streams.core.decide import decide
from streams.core.model import (
    Cancellation,
    Delivery,
    Destination,
    DestinationInput,
    Event,
    EventInput,
    Feedback,
    Input,
    PreferenceInput,
    Preferences,
    QuietWindow,
    Receipt,
    RecipientState,
    Source,
    Wake,
)
from streams.core.policy import Category, DigestRule, LimitRule, Policy, RetryRule
from streams.ledger.model import TERMINAL, Answer, Subject, facts_of

T0 = 1_700_000_000_000
HOUR_MS = 3_600_000
RETRY = RetryRule(attempts_max=3, delay_ms=60_000)
POLICY = Policy(
    "v1",
    {
        "plain": Category("plain", route="all", retry=RETRY),
        "urgent": Category("urgent", priority="critical", mandatory=True, retry=RETRY),
        "escalating": Category("escalating", route="escalate", retry=RETRY),
        "gathered": Category("gathered", digest=DigestRule("window", 2 * HOUR_MS), retry=RETRY),
        "limited": Category("limited", limits=(LimitRule("category", 1, HOUR_MS),), retry=RETRY),
        "short": Category("short", expires_after_ms=HOUR_MS, retry=RETRY),
    },
    dedupe_horizon_ms=400 * 24 * HOUR_MS,
)
ANSWERS = ("accepted", "retry", "rejected", "unregistered", "ambiguous", "stale", "killed")


class Life:
    """One recipient, a random sequence of inputs, and both views of what came of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.codec = Codec()
        self.state = RecipientState("ann", 3)
        self.now_ms = T0
        self.offset = 0
        self.subjects: defaultdict[str, Subject] = defaultdict(Subject)
        self.closed: set[str] = set()
        self.unanswered: list[Delivery] = []
        self.answers: list[tuple[Delivery, str]] = []
        self.accepted: set[str] = set()
        self.undecided: list[Feedback] = []
        self.events: list[str] = []

    def apply(self, entered: Input) -> None:
        made = decide(self.state, entered, self.now_ms, POLICY)
        self.state = made.state
        self.unanswered += made.deliveries
        if made.entries:
            value = self.codec.encode_decision("ann", self.now_ms, "v1", made.entries)
            for fact in facts_of(self.codec.decode("decision", value), self.offset):
                self.subjects[fact.subject_id].add(fact)
                if fact.verdict == "digest_closed":
                    self.closed.add(fact.subject_id)
        self.offset += 1

    def source(self, topic: str) -> Source:
        return Source(topic, 3, self.offset, self.now_ms)

    def step(self) -> None:
        self.now_ms += self.random.choice((0, 1_000, 60_000, HOUR_MS, 3 * HOUR_MS))
        act = self.random.choices(
            (self.event, self.answer, self.feed_back, self.wake, self.cancel, self.change),
            (6, 6, 5, 4, 1, 1),
        )[0]
        act()

    def event(self) -> None:
        known = self.events and self.random.random() < 0.15
        event_id = self.random.choice(self.events) if known else f"e{len(self.events)}"
        if not known:
            self.events.append(event_id)
        category = self.random.choice(list(POLICY.categories))
        key = self.random.choice((None, None, "k"))
        older = self.random.choice(self.events) if self.random.random() < 0.1 else None
        new = Event(event_id, "ann", category, self.now_ms, collapse_key=key, supersedes=older)
        self.apply(EventInput(new, self.source(topics.EVENTS_NORMAL)))

    def answer(self) -> None:
        if not self.unanswered:
            return
        delivery = self.unanswered.pop(self.random.randrange(len(self.unanswered)))
        status = self.random.choice(ANSWERS)
        self.answers.append((delivery, status))
        if status == "accepted":
            self.accepted.add(delivery.notification_id)
        else:
            source = self.source(topics.FEEDBACK)
            self.undecided.append(
                Feedback(delivery, status, status, None, self.now_ms, source)  # type: ignore[arg-type]
            )

    def feed_back(self) -> None:
        if self.undecided:
            self.apply(self.undecided.pop(0))

    def wake(self) -> None:
        self.apply(Wake("ann"))

    def cancel(self) -> None:
        if self.events:
            one = self.random.choice(self.events)
            source = self.source(topics.CANCELLATIONS)
            self.apply(Cancellation("ann", one, None, self.now_ms, source))

    def change(self) -> None:
        what = self.random.randrange(4)
        source = self.source(topics.PREFERENCES)
        if what == 0:
            windows = (QuietWindow(1320, 420),) if self.random.random() < 0.5 else ()
            chosen = Preferences(
                categories={"plain": self.random.random() < 0.7}, quiet_hours=windows
            )
            self.apply(PreferenceInput("ann", chosen, source))
        elif what == 1 and self.events:
            about = self.random.choice(self.events)
            seen = Receipt("ann", "seen", None, None, about, None, None, self.now_ms, source)
            self.apply(seen)
        else:
            kind = self.random.choice(("apns", "fcm", "email", "sms"))
            new = Destination(f"{kind}-1", kind, f"{kind}:{self.now_ms}", self.now_ms)  # type: ignore[arg-type]
            self.apply(DestinationInput("ann", new, False, self.now_ms, source))

    # -- the two views

    def waits_of(self, event_id: str) -> set[str]:
        """What the core and the test's providers still hold of an event, by kind."""
        subject_id = ids.to_id(3, ids.event_digest(event_id, "ann"))
        waiting, waits = self.state.waiting, set()
        if any(held.notification.notification_id == subject_id for held in waiting.held):
            waits.add("held")
        if any(ids.hash8(event_id) in _hashes(d.members) for d in waiting.digests):
            waits.add("digest")
        if any(retry.delivery.notification_id == subject_id for retry in waiting.retries):
            waits.add("retry")
        if any(e.notification.notification_id == subject_id for e in waiting.escalations):
            waits.add("escalation")
        if any(delivery.notification_id == subject_id for delivery in self.unanswered):
            waits.add("provider")
        if any(f.delivery.notification_id == subject_id for f in self.undecided):
            waits.add("decision")
        return waits

    def check(self) -> None:
        for delivery, status in self.answers:
            self.subjects[delivery.notification_id].answer(
                Answer(
                    delivery.delivery_id, delivery.notification_id, delivery.epoch,
                    delivery.attempt, delivery.decided_at_ms, status, status, delivery.channel,
                    delivery.kind, False,
                )
            )  # fmt: skip
        for event_id in self.events:
            subject_id = ids.to_id(3, ids.event_digest(event_id, "ann"))
            subject = self.subjects[subject_id]
            status_now = subject.status(self.closed.__contains__)
            assert status_now is not None, event_id
            waits, state = self.waits_of(event_id), status_now.state
            story = f"{event_id}: {status_now}, and the core waits for {waits or 'nothing'}"
            if subject_id in self.accepted and len(subject.lives) == 1:
                assert state == "delivered", story
            elif state == "open":
                known = "held" if status_now.waits_for not in _KINDS else status_now.waits_for
                assert known in waits, story
            elif state != "delivered":
                assert state in TERMINAL
                # An answer that is not decided yet may only repeat the verdict that stands.
                assert waits <= {"decision"}, story


_KINDS = {"provider", "retry", "digest", "escalation", "decision"}


def _hashes(members: bytes) -> set[bytes]:
    return {members[at : at + 8] for at in range(0, len(members), 8)}


@pytest.mark.parametrize("seed", range(60))
def test_open_exactly_when_something_still_waits(seed: int) -> None:
    life = Life(seed)
    for kind in ("apns", "email", "sms"):
        new = Destination(f"{kind}-1", kind, f"{kind}:0", T0)
        source = life.source(topics.DESTINATIONS)
        life.apply(DestinationInput("ann", new, False, T0, source))
    for _ in range(120):
        life.step()
    life.check()


@pytest.mark.parametrize("seed", range(100, 120))
def test_everything_ends_when_time_and_answers_come(seed: int) -> None:
    life = Life(seed)
    for _ in range(100):
        life.step()
    for _ in range(500):
        life.now_ms += HOUR_MS
        life.wake()
        while life.unanswered or life.undecided:
            life.answer()
            life.feed_back()
    life.check()
    for event_id in life.events:
        subject = life.subjects[ids.to_id(3, ids.event_digest(event_id, "ann"))]
        status = subject.status(life.closed.__contains__)
        assert status is not None
        assert status.state != "open", (event_id, status)
