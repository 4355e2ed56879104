"""The accounting of an audit: every accepted event against every verdict and answer. Pure.

One ``PartitionAudit`` at a time: a recipient's whole life is on one partition, so memory is
bounded by the largest partition. What crosses partitions (records that came in on a wrong one, the
ids that providers received) is kept in ``Crossing``.

Independent of the ledger's database and of its counting; it shares only the derivation of a state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams import topics
from streams.core.ids import event_digest, to_id
from streams.ledger.model import (
    REPEATS,
    Answer,
    Fact,
    Life,
    Status,
    Subject,
    answer_of,
    facts_of,
)
from streams.ledger.report import Report

FORWARDED = "flowstate-forwarded"
Place = tuple[str, int, int]
"""(topic, partition, offset)."""
CountOf = tuple[str, str, str]
"""(what, channel, reason), as the ledger counts them, without the category."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """One record of an events topic."""

    place: Place
    subject_id: str | None
    """What its notification must be called; ``None`` when its bytes could not be read."""
    belongs_here: bool
    """False when its recipient lives on another partition."""
    origin: Place | None
    """Set on a forwarded copy: where the original came in."""
    appended_at_ms: int


class Crossing:
    """What is shared by the partitions of an audit.

    ``received_before`` holds the delivery ids that providers had received before any topic was
    read: each of them must have been decided.
    """

    def __init__(
        self, report: Report, received_before: Iterable[str] | None, samples_max: int
    ) -> None:
        self.report = report
        self.samples_max = samples_max
        self.keeps_ids = received_before is not None
        self.undecided: set[str] = set(received_before or ())
        self.accepted_ids: set[str] = set()
        self.flagged_ids: set[str] = set()
        self.elsewhere: dict[Place, Status | None] = {}
        """Originals on a wrong partition, with what is known of them there."""
        self.settled_here: set[Place] = set()
        """Records on a wrong partition that were decided there all the same."""
        self.arrived: dict[Place, tuple[Place, Status | None]] = {}
        self.counts: Counter[CountOf] = Counter()
        self.read_to: dict[tuple[str, int], int] = {}
        """(topic, partition) -> offset after the last record that was read."""

    def problem(self, text: str) -> None:
        """Something does not add up."""
        self.report.problem(text, self.samples_max)

    def finish(self) -> None:
        """Settles what crossed partitions, once every partition is done."""
        for origin, (copy, status) in self.arrived.items():
            if origin in self.settled_here:
                self.problem(f"{_name(origin)} was decided and forwarded too")
            if origin in self.elsewhere:
                del self.elsewhere[origin]
                self.report.forwarded += 1
            else:
                # Its original is gone from the log, or never was: it stands for itself.
                self.report.accepted += 1
            self.settle(copy, status)
        for place, status in self.elsewhere.items():
            self.settle(place, status)

    def check_received(self, received: Mapping[str, int]) -> None:
        """Compares the answers with what the providers received, by delivery id and how often;
        ``received`` was read after all topics."""
        report = self.report
        report.received = sum(received.values())
        report.received_ids = len(received)
        report.repeats_flagged = len(self.flagged_ids)
        for delivery_id in sorted(self.accepted_ids - received.keys()):
            self.problem(f"delivery {delivery_id} was accepted, but no provider received it")
        for delivery_id in sorted(self.undecided):
            self.problem(f"delivery {delivery_id} was received but never decided")
        for delivery_id, count in received.items():
            if count > 1:
                report.repeats += 1
                if delivery_id not in self.flagged_ids:
                    self.problem(
                        f"delivery {delivery_id} was received {count} times and is not flagged"
                    )

    def settle(self, place: Place, status: Status | None) -> None:
        """Books one accepted event. ``None``: nobody knows what became of it."""
        report = self.report
        if status is None:
            self.problem(f"nothing is known of {_name(place)}")
        elif status.state == "open":
            report.open[status.waits_for] += 1
        else:
            report.states[status.state] += 1
            if status.state == "delivered":
                report.delivered.update(status.channels)
            elif status.state != "digested":
                report.reasons[status.state, status.reason] += 1


class PartitionAudit:
    """The books of one partition: give it every record, then ``finish``."""

    def __init__(self, crossing: Crossing, decisions_start: int = 0) -> None:
        """``decisions_start``: first offset that the log of decisions still has."""
        self._crossing = crossing
        self._trimmed = decisions_start > 0
        self._report = crossing.report
        self._accepted: list[Accepted] = []
        self._subjects: defaultdict[str, Subject] = defaultdict(Subject)
        self._verdicts: dict[Place, list[tuple[Fact, Life | None]]] = {}
        self._closed: dict[str | None, Fact] = {}
        self._left_closed: Counter[str | None] = Counter()
        """Digest -> events that were cancelled while it was closed and not sent."""
        self._answers: list[Answer] = []
        self._dead: dict[Place, str] = {}
        self._decided: dict[str, int] = {}
        self._first_decided_ms: int | None = None

    # ------------------------------------------------------------------------------ the records

    def event(self, event: Accepted) -> None:
        """A record of an events topic."""
        self._accepted.append(event)

    def decision(self, decision: Mapping[str, Any], offset: int, appended_at_ms: int) -> None:
        """A decoded ``decision``, in the order of the log."""
        if self._first_decided_ms is None:
            self._first_decided_ms = appended_at_ms
        counts, crossing = self._crossing.counts, self._crossing
        for fact in facts_of(decision, offset):
            subject = self._subjects[fact.subject_id]
            subject.add(fact)
            if fact.decides_record:
                assert fact.source is not None
                topic, _, at = fact.source
                life = None if fact.verdict in REPEATS else subject.lives[-1]
                self._verdicts.setdefault(fact.source, []).append((fact, life))
                self._decided[topic] = max(self._decided.get(topic, -1), at)
            if fact.verdict == "digest_closed":
                self._closed[fact.subject_id] = fact
            elif fact.digest_id in self._closed and fact.verdict != "digested":
                self._left_closed[fact.digest_id] += 1
            elif fact.verdict == "held":
                self._report.held[fact.reason] += 1
            for delivery_id, _attempt, channel in fact.tries:
                counts[fact.verdict, channel, fact.reason] += 1
                crossing.undecided.discard(delivery_id)
            if not fact.tries:
                counts[fact.verdict, "", fact.reason] += 1

    def outcome(self, outcome: Mapping[str, Any]) -> None:
        """A decoded ``outcome``."""
        self._answers.append(answer_of(outcome))

    def dead_letter(self, letter: Mapping[str, Any]) -> None:
        """A decoded ``dead_letter``."""
        self._report.dead_letters[letter["reason"]] += 1
        if letter["topic"] in topics.EVENTS:
            place = (letter["topic"], letter["partition"], letter["offset"])
            self._dead[place] = letter["reason"]

    # -------------------------------------------------------------------------------- the books

    def finish(self, taken: Mapping[str, int]) -> None:
        """Books everything. ``taken``: positions up to which DECIDE says it is done, by topic."""
        self._book_answers()
        for event in self._accepted:
            self._book_event(event, taken)
        self._book_digests()

    def _book_answers(self) -> None:
        tries: set[tuple[str, int, int, int]] = set()
        crossing, report = self._crossing, self._report
        for answer in self._answers:
            key = (answer.delivery_id, answer.epoch, answer.attempt, answer.decided_at_ms)
            if key in tries:
                report.answers_repeated += 1
                continue
            tries.add(key)
            report.answers[answer.status, answer.channel] += 1
            crossing.counts[f"answer:{answer.status}", answer.channel, answer.reason] += 1
            if crossing.keeps_ids:
                if answer.possible_repeat or answer.status == "ambiguous" or answer.epoch:
                    crossing.flagged_ids.add(answer.delivery_id)
                if answer.status == "accepted":
                    crossing.accepted_ids.add(answer.delivery_id)
            subject = self._subjects.get(answer.notification_id)
            if subject is not None:
                subject.answer(answer)
            elif not self._trimmed:
                crossing.problem(f"delivery {answer.delivery_id} was answered but never decided")

    def _book_event(self, event: Accepted, taken: Mapping[str, int]) -> None:
        verdicts = self._verdicts.get(event.place, [])
        status = self._status(event, verdicts, taken)
        if event.origin is not None:
            self._crossing.arrived[event.origin] = (event.place, status)
            return
        if not verdicts and self._is_trimmed(event):
            self._report.unaudited += 1
            return
        self._report.accepted += 1
        if event.belongs_here:
            self._crossing.settle(event.place, status)
        elif verdicts or event.place in self._dead:
            self._crossing.settled_here.add(event.place)
            self._crossing.settle(event.place, status)
        else:
            self._crossing.elsewhere[event.place] = status

    def _status(
        self, event: Accepted, verdicts: list[tuple[Fact, Life | None]], taken: Mapping[str, int]
    ) -> Status | None:
        topic, _, offset = event.place
        if not verdicts:
            if (reason := self._dead.get(event.place)) is not None:
                return Status("dead_lettered", reason)
            if offset >= max(taken.get(topic, 0), self._decided.get(topic, -1) + 1):
                return Status("open", "not_taken_yet", "deciding")
            return None
        if len(verdicts) > 1:
            self._crossing.problem(f"{_name(event.place)} was decided {len(verdicts)} times")
        fact, life = verdicts[0]
        if event.subject_id is not None and fact.subject_id != event.subject_id:
            self._crossing.problem(f"the verdict on {_name(event.place)} is about another event")
        if life is None:
            return Status("duplicate", fact.reason)
        return life.status(self._closed.__contains__)

    def _is_trimmed(self, event: Accepted) -> bool:
        """Whether the verdict may have been in a part of the log that was deleted."""
        if not self._trimmed or event.place in self._dead:
            return False
        first_ms = self._first_decided_ms
        return first_ms is None or event.appended_at_ms <= first_ms

    def _book_digests(self) -> None:
        members: Counter[str] = Counter()
        gathering: set[str] = set()
        for subject in self._subjects.values():
            for life in subject.lives:
                status = life.status(self._closed.__contains__)
                if status.state == "digested" and status.digest_id is not None:
                    members[status.digest_id] += 1
                elif status.waits_for == "digest" and status.digest_id is not None:
                    gathering.add(status.digest_id)
        self._report.digests_gathering += len(gathering)
        for fact in self._closed.values():
            digest_id = fact.subject_id
            self._report.absorbed[fact.count] += 1
            state = self._subjects[digest_id].status(self._closed.__contains__)
            assert state is not None
            self._report.digests[state.state] += 1
            self._report.digests_delivered.update(state.channels)
            inside = members[digest_id] + self._left_closed[digest_id]
            if inside != fact.count:
                self._crossing.problem(
                    f"digest {digest_id} says it has {fact.count} events, {inside} went into it"
                )


def accepted_of(
    place: Place,
    key_ids: tuple[str, str] | None,
    home: int | None,
    headers: Iterable[tuple[str, bytes]],
    appended_at_ms: int,
) -> Accepted:
    """An event's record. ``key_ids``: its (event id, recipient id) when its bytes could be read;
    ``home``: the partition of its recipient, when known."""
    origin = next((_place(value) for name, value in headers if name == FORWARDED), None)
    subject_id = None
    if key_ids is not None:
        subject_id = to_id(place[1], event_digest(*key_ids))
    return Accepted(place, subject_id, home in (None, place[1]), origin, appended_at_ms)


def _place(header: bytes) -> Place | None:
    """The place that a forwarded copy names; ``None`` when it is not one."""
    try:
        topic, partition, offset = header.decode().rsplit("/", 2)
        return topic, int(partition), int(offset)
    except ValueError:
        return None


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}/{place[2]}"
