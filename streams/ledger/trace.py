"""From rows to a trace: what is about one subject, in order, with where it stands.

Pure but for the decoding of rows. Rows of one moment may be about other subjects of the same
recipient; those are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from streams.core.reasons import sentence
from streams.ledger.documents import Trace, TraceEntry, TraceOutcome, TraceReceipt
from streams.ledger.model import Status, Subject, answer_of, facts_of
from streams.ledger.rows import Row

_NOTHING_DECIDED = Status("open", "unknown", "decision")
_OUTCOME_FIELDS = TraceOutcome.__struct_fields__
_RECEIPT_FIELDS = TraceReceipt.__struct_fields__


class Decoder(Protocol):
    """The part of ``streams.codec.Codec`` that the ledger needs."""

    def decode(self, record_name: str, value: bytes) -> dict[str, Any]:
        """Avro bytes -> fields by name."""


def entries_of(decision: Mapping[str, Any], offset: int) -> list[TraceEntry]:
    """All entries of a decoded ``decision``, explained."""
    return [
        TraceEntry(
            decided_at_ms=decision["decided_at_ms"],
            offset=offset,
            policy_version=decision["policy_version"],
            sentence=sentence(entry["reason"], entry["inputs"]),
            **entry,
        )
        for entry in decision["entries"]
    ]


def outcome_of(outcome: Mapping[str, Any]) -> TraceOutcome:
    """A decoded ``outcome``, as people may see it."""
    return TraceOutcome(**{name: outcome[name] for name in _OUTCOME_FIELDS})


def receipt_of(receipt: Mapping[str, Any]) -> TraceReceipt:
    """A decoded ``receipt``, as people may see it."""
    return TraceReceipt(**{name: receipt[name] for name in _RECEIPT_FIELDS})


def decision_offset(row: Row) -> int:
    """Offset of the record behind a decision's or receipt's row."""
    return int.from_bytes(row.suffix[9:17])


class Gathered:
    """The rows of some moments, reduced to what is about one subject."""

    def __init__(self, subject_id: str, rows: Iterable[Row], codec: Decoder) -> None:
        self.subject_id = subject_id
        self.owner_id: str | None = None
        """When ``subject_id`` is a delivery's: what it delivers."""
        self.entries: list[TraceEntry] = []
        self.outcomes: list[TraceOutcome] = []
        self.receipts: list[TraceReceipt] = []
        self._members: dict[str, None] = {}
        self._deliveries = {subject_id}
        self._event_id: str | None = None
        self._subject = Subject()
        decoded = [(row, codec.decode(row.kind, row.value)) for row in rows]
        decisions = [(decision_offset(row), d) for row, d in decoded if row.kind == "decision"]
        # By offset, not by time: in stream time an answer is decided at its delivery's time.
        for offset, fields in sorted(decisions, key=lambda pair: pair[0]):
            self._add_decision(fields, offset)
        for row, fields in decoded:
            if row.kind == "outcome":
                self._add_outcome(fields)
        for row, fields in decoded:
            if row.kind == "receipt":
                self._add_receipt(fields)
        self.outcomes.sort(key=lambda o: (o.decided_at_ms, o.epoch, o.attempt, o.answered_at_ms))

    @property
    def delivery_ids(self) -> set[str]:
        """Ids of its deliveries: a receipt may know nothing else."""
        return self._deliveries - {self.subject_id}

    def add_receipts(self, receipts: Iterable[Mapping[str, Any]]) -> None:
        """Decoded receipts that were found under the ids of its deliveries."""
        for receipt in receipts:
            self._add_receipt(receipt)

    def _add_decision(self, decision: Mapping[str, Any], offset: int) -> None:
        facts = facts_of(decision, offset)
        for entry, fact in zip(entries_of(decision, offset), facts, strict=True):
            if entry.subject_id == self.subject_id:
                self.entries.append(entry)
                self._subject.add(fact)
                self._event_id = self._event_id or entry.event_id
                self._deliveries.update(sent["delivery_id"] for sent in entry.deliveries)
            elif entry.digest_id == self.subject_id:
                member = entry.event_id or entry.subject_id
                if entry.verdict == "digested":
                    self._members[member] = None
                else:
                    self._members.pop(member, None)
            elif any(sent["delivery_id"] == self.subject_id for sent in entry.deliveries):
                self.owner_id = entry.subject_id

    def _add_outcome(self, outcome: Mapping[str, Any]) -> None:
        if outcome["notification_id"] == self.subject_id:
            self.outcomes.append(outcome_of(outcome))
            self._subject.answer(answer_of(outcome))

    def _add_receipt(self, receipt: Mapping[str, Any]) -> None:
        about_event = self._event_id is not None and receipt["event_id"] == self._event_id
        ids = {receipt["notification_id"], receipt["delivery_id"]}
        if about_event or not ids.isdisjoint(self._deliveries):
            self.receipts.append(receipt_of(receipt))

    @property
    def is_closed(self) -> bool:
        """Whether this digest has been closed."""
        return any(entry.verdict == "digest_closed" for entry in self.entries)

    def trace(
        self, recipient_id: str, is_cut: bool, is_closed: Callable[[str], bool], shown_max: int
    ) -> Trace:
        """Everything found, with where it stands."""
        status = self._subject.status(is_closed)
        if status is None and self._members:
            status = Status("open", "digested", "digest")
        closing = [entry.count for entry in self.entries if entry.verdict == "digest_closed"]
        category = next((entry.category for entry in self.entries if entry.category), "")
        return Trace(
            self.subject_id,
            recipient_id,
            self._event_id,
            category,
            status or _NOTHING_DECIDED,
            self.entries,
            self.outcomes,
            sorted(self.receipts, key=lambda receipt: receipt.occurred_at_ms),
            None,
            closing[-1] if closing else len(self._members),
            list(self._members)[:shown_max],
            is_cut,
        )
