"""What became of an event: one pure derivation, shared by the ledger, ``explain``, ``reconcile``.

Each accepted event ends in exactly one of the terminal states, or is open and says what it waits
for and until when. The state follows from two logs: the entries of ``decisions`` about a subject
(a notification or a digest), in the order of their offsets, and the provider answers of
``outcomes`` about its deliveries.

Theory. A *subject* lives one or more *lives*: usually one; a further one starts when an event with
the same id is accepted again after the dedupe horizon. Entries are about the whole subject
(``routed``, ``held``, ``cancelled``), or about one delivery of it (``retried``, ``rejected``).
Within a life, the first that holds:

1. a provider accepted any of its deliveries: ``delivered``, whatever else was tried;
2. a delivery was handed over and not answered: open, it waits for the ``provider``;
3. a delivery will be tried again: open, it waits for the ``retry``;
4. the subject is held, in an open digest, or will move to another channel: open, it waits for
   that; in a digest that was closed it is ``digested``;
5. a receipt told that the recipient has it, so no further attempt was made: ``delivered``, though
   no provider's answer says so;
6. the latest entry ends it: what that says (``noted`` ends nothing);
7. every answer was a refusal and nothing was decided since: open, it waits for the ``decision``.

Duplicates and conflicts are about a *record*, not about the life they repeat: they never change
it. Invariants: answers may be folded in any order and any number of times, once the entries are
in; an entry is folded once (tests/ledger/test_model.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from streams import topics

State = Literal[
    "delivered",
    "suppressed",
    "dropped",
    "digested",
    "duplicate",
    "expired",
    "cancelled",
    "dead_lettered",
    "open",
]
TERMINAL: Final = (
    "delivered",
    "suppressed",
    "dropped",
    "digested",
    "duplicate",
    "expired",
    "cancelled",
    "dead_lettered",
)
REPEATS: Final = frozenset({"duplicate", "conflict"})
_ENDS: Final = frozenset({"suppressed", "dropped", "expired", "cancelled", "dead_lettered"})
_ISSUES: Final = frozenset({"delivering", "escalating"})
"""Verdicts whose deliveries were produced; other entries only say which delivery they are about."""
_AGAIN: Final = frozenset({"retried", "decided_again", "redriven"})
"""Reasons of a ``delivering`` that is about one delivery, not about the whole subject."""
_REMARKS: Final = frozenset(
    {
        "destination_removed",
        "suppression_added",
        "suppression_lifted",
        "preference_ignored",
        "preferences_outdated",
        "preferences_too_large",
        "destination_too_large",
        "too_late_to_cancel",
        "cancel_remembered",
        "escalation_ended",
        "dedupe_overflow",
    }
)
"""Reasons of ``noted`` that conclude nothing; with another reason it concludes a later step."""
_ENDS_ESCALATION: Final = frozenset({"escalation_ended", "too_late_to_cancel"})
_EVENT_TOPICS: Final = frozenset(topics.EVENTS)


class Fact(msgspec.Struct, frozen=True, gc=False):
    """One entry of one decision record, with its place in the log."""

    offset: int
    index: int
    decided_at_ms: int
    subject_id: str
    verdict: str
    reason: str
    category: str
    event_id: str | None
    digest_id: str | None
    until_ms: int | None
    count: int
    tries: tuple[tuple[str, int, str], ...]
    """(delivery id, attempt, channel) of each delivery that it produced or is about."""
    source: tuple[str, int, int] | None
    """(topic, partition, offset) of the record that caused it."""
    escalates_at_ms: int | None = None
    decides_record: bool = False
    """True when it is the verdict on the event record that ``source`` names."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One provider answer. (delivery_id, epoch, attempt, decided_at_ms) names the try."""

    delivery_id: str
    notification_id: str
    epoch: int
    attempt: int
    decided_at_ms: int
    status: str
    reason: str
    channel: str
    kind: str
    possible_repeat: bool


class Status(msgspec.Struct, frozen=True):
    """Where a subject stands. ``waits_for`` and ``until_ms`` are set for open ones only."""

    state: State
    reason: str
    waits_for: str = ""
    until_ms: int | None = None
    digest_id: str | None = None
    channels: tuple[str, ...] = ()
    """Channels on which a provider accepted it, in alphabetical order."""


class Life:
    """One life of a subject, folded entry by entry; small, because an audit holds many."""

    __slots__ = (
        "accepted",
        "answered",
        "ended",
        "escalates_at_ms",
        "issued",
        "latest",
        "retries",
        "seen",
        "start_ms",
        "waiting",
    )

    def __init__(self, fact: Fact) -> None:
        self.start_ms = fact.decided_at_ms
        self.latest = fact
        self.ended: Fact | None = None
        self.waiting: Fact | None = None
        self.escalates_at_ms: int | None = None
        self.retries: dict[str, int | None] = {}
        self.issued: dict[tuple[str, int], int] = {}
        self.answered: dict[tuple[str, int], set[tuple[int, int]]] = {}
        self.accepted: tuple[str, ...] = ()
        self.seen: tuple[str, ...] = ()
        self.add(fact)

    def add(self, fact: Fact) -> None:
        """The next entry of this life, in the order of offset and index."""
        verdict = fact.verdict
        if verdict == "noted" and fact.reason in _REMARKS:
            if fact.reason in _ENDS_ESCALATION:
                self._end_escalation()
            return
        if verdict in _ISSUES:
            for delivery_id, attempt, _channel in fact.tries:
                key = (delivery_id, attempt)
                self.issued[key] = self.issued.get(key, 0) + 1
        if fact.tries and (verdict not in _ISSUES or fact.reason in _AGAIN):
            self._about_delivery(fact)
        else:
            self._about_subject(fact)
        if verdict != "noted":
            self.latest = fact
        elif self.ended is not None:
            self.latest = self.ended
        if verdict in _ENDS:
            self.ended = fact

    def _about_delivery(self, fact: Fact) -> None:
        if fact.reason == "retry_ended":
            self.seen = tuple(sorted({*self.seen, *(channel for _, _, channel in fact.tries)}))
        for delivery_id, _attempt, _channel in fact.tries:
            if fact.verdict == "retrying":
                self.retries[delivery_id] = fact.until_ms
            else:
                self.retries.pop(delivery_id, None)

    def _about_subject(self, fact: Fact) -> None:
        self.waiting = fact if fact.verdict in ("held", "digested") else None
        self.escalates_at_ms = fact.escalates_at_ms
        if fact.verdict == "cancelled":
            self.retries.clear()

    def _end_escalation(self) -> None:
        """No further channel will be tried; a step that is held will not be taken either."""
        self.escalates_at_ms = None
        if self.issued and self.waiting is not None and self.waiting.verdict == "held":
            self.waiting = None
            self.latest = self.ended or self.latest

    def answer(self, answer: Answer) -> None:
        """A provider's answer to one of its deliveries, in any order, any number of times."""
        key = (answer.delivery_id, answer.attempt)
        self.answered.setdefault(key, set()).add((answer.epoch, answer.decided_at_ms))
        if answer.status == "accepted" and answer.channel not in self.accepted:
            self.accepted = tuple(sorted((*self.accepted, answer.channel)))

    @property
    def unanswered(self) -> bool:
        """Whether a delivery was handed over that no provider has answered.

        A redrive, and a decision made again, issue the same (delivery, attempt) in a new epoch,
        so tries are counted, not only named.
        """
        answered = self.answered
        return any(len(answered.get(key, ())) < count for key, count in self.issued.items())

    def status(self, is_closed: Callable[[str], bool]) -> Status:
        """Where it stands; ``is_closed`` says whether a digest has been closed."""
        latest, waiting = self.latest, self.waiting
        if self.accepted:
            return Status("delivered", "accepted", channels=self.accepted)
        if self.unanswered:
            return Status("open", latest.reason, "provider")
        if self.retries:
            due = min((ms for ms in self.retries.values() if ms is not None), default=None)
            return Status("open", latest.reason, "retry", due)
        if waiting is not None and waiting.verdict == "digested":
            return _digested(waiting, is_closed)
        if waiting is not None:
            return Status("open", waiting.reason, waiting.reason, waiting.until_ms)
        if self.escalates_at_ms is not None:
            return Status("open", latest.reason, "escalation", self.escalates_at_ms)
        if self.seen:
            return Status("delivered", "retry_ended", channels=self.seen)
        if latest.verdict in _ENDS:
            return Status(latest.verdict, latest.reason)  # type: ignore[arg-type]
        if latest.reason == "digest_empty":
            return Status("cancelled", latest.reason)
        return Status("open", latest.reason, "decision")


def _digested(latest: Fact, is_closed: Callable[[str], bool]) -> Status:
    digest = latest.digest_id
    if digest is not None and is_closed(digest):
        return Status("digested", latest.reason, digest_id=digest)
    return Status("open", latest.reason, "digest", latest.until_ms, digest)


class Subject:
    """Everything that is known of one notification or digest."""

    __slots__ = ("lives", "repeats")

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.repeats: list[Fact] = []
        """Entries ``duplicate`` and ``conflict``: each ends a record of its own."""

    def add(self, fact: Fact) -> None:
        """Folds the next entry, in the order of offset and index."""
        if fact.verdict in REPEATS:
            self.repeats.append(fact)
        elif not self.lives or fact.decides_record:
            self.lives.append(Life(fact))
        else:
            self.lives[-1].add(fact)

    def answer(self, answer: Answer) -> None:
        """Folds an answer into the life that the try belongs to. Entries come first."""
        for life in reversed(self.lives):
            if life.start_ms <= answer.decided_at_ms:
                life.answer(answer)
                return
        if self.lives:
            self.lives[0].answer(answer)

    def status(self, is_closed: Callable[[str], bool]) -> Status | None:
        """Of the latest life; ``None`` when only repeats are known."""
        if self.lives:
            return self.lives[-1].status(is_closed)
        if self.repeats:
            return Status("duplicate", self.repeats[-1].reason)
        return None


def facts_of(decision: Mapping[str, Any], offset: int) -> Iterable[Fact]:
    """Entries of a decoded ``decision`` record, in order.

    An event's record may first end other events (superseded, collapsed); the verdict on the event
    itself is the last one that its record caused.
    """
    entries = decision["entries"]
    own: dict[tuple[str, int, int], str] = {}
    for entry in entries:
        source = _event_source(entry)
        if source is not None:
            own[source] = entry["subject_id"]
    decided_at_ms = decision["decided_at_ms"]
    for index, entry in enumerate(entries):
        topic = entry["source_topic"]
        source = (
            None if topic is None else (topic, entry["source_partition"], entry["source_offset"])
        )
        escalates = entry["inputs"].get("escalates_at_ms")
        event_source = _event_source(entry)
        yield Fact(
            offset,
            index,
            decided_at_ms,
            entry["subject_id"],
            entry["verdict"],
            entry["reason"],
            entry["category"],
            entry["event_id"],
            entry["digest_id"],
            entry["until_ms"],
            entry["count"],
            tuple((d["delivery_id"], d["attempt"], d["channel"]) for d in entry["deliveries"]),
            source,
            None if escalates is None else int(escalates),
            event_source is not None and own[event_source] == entry["subject_id"],
        )


def _event_source(entry: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """The event record that caused an entry which can be the verdict on it."""
    topic = entry["source_topic"]
    if topic not in _EVENT_TOPICS or entry["event_id"] is None or entry["verdict"] == "noted":
        return None
    return topic, entry["source_partition"], entry["source_offset"]


def answer_of(outcome: Mapping[str, Any]) -> Answer:
    """A decoded ``outcome`` record, as far as the state depends on it."""
    return Answer(
        outcome["delivery_id"],
        outcome["notification_id"],
        outcome["epoch"],
        outcome["attempt"],
        outcome["decided_at_ms"],
        outcome["status"],
        outcome["reason"],
        outcome["channel"],
        outcome["kind"],
        outcome["possible_repeat"],
    )
