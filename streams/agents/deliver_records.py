"""An answer as the records that keep it: outcome, feedback, receipt, dead letter.

Routing: every answer is an outcome; whatever is not ``accepted`` is also feedback, with its
delivery inside; an opt-out that a provider knows of becomes a receipt, and so does an address that
is to be left alone for a while (``soft_bounced``). All are keyed by recipient
and stay on the delivery's partition number.

Invariant: in stream time every record has the decision's time, so that nothing depends on when the
run was made.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.agents.burying import remains_of
from streams.agents.deliver_item import Item
from streams.agents.deliver_terms import Finished, Names
from streams.codec import Codec, DecodeError
from streams.core.model import Delivery
from streams.engine.api import Record
from streams.engine.packing import NO_HEADERS, Row
from streams.sinks.base import Accepted, Answer, Outcome, Rejected, Retry

OnDurable = Callable[[int], None]


class Writer:
    """Encodes for one partition."""

    def __init__(self, codec: Codec, names: Names, partition: int, stream: bool) -> None:
        self._codec = codec
        self._names = names
        self._partition = partition
        self._stream = stream

    def finished(
        self, item: Item, answer: Answer, answered_at_ms: int, on_durable: OnDurable
    ) -> Finished:
        """Everything that an answer leaves behind."""
        delivery, outcome = item.delivery, answer.outcome
        at_ms = delivery.decided_at_ms if self._stream else answered_at_ms
        timestamp_ms = at_ms if self._stream else None
        key = delivery.recipient_id.encode()
        aside: list[tuple[str, Row]] = []
        if not isinstance(outcome, Accepted):
            feedback = self._codec.encode_feedback(
                delivery, outcome.status, outcome.reason, _after(outcome), at_ms, answer.provider
            )
            aside.append((self._names.feedback, (key, feedback, timestamp_ms, NO_HEADERS)))
        if isinstance(outcome, Rejected) and (outcome.unsubscribed or outcome.quarantine):
            kind = "unsubscribed" if outcome.unsubscribed else "soft_bounced"
            receipt = self._receipt(delivery, kind, outcome.unsubscribed or None, at_ms)
            aside.append((self._names.receipts, (key, receipt, timestamp_ms, NO_HEADERS)))
        row = key, self._outcome(item, answer, at_ms), timestamp_ms, NO_HEADERS
        return Finished(aside, row, on_durable)

    def dead(self, record: Record, error: DecodeError, on_durable: OnDurable) -> Finished:
        """A delivery that cannot be read: its bytes are kept, nothing is sent."""
        about = remains_of(record, error.detail)
        value = self._codec.encode_dead_letter(
            {
                **about,
                "recipient_id": None,
                "reason": error.reason,
                "delivery": None,
                "dead_at_ms": record.timestamp,
            }
        )
        timestamp_ms = record.timestamp if self._stream else None
        row = about["key"], value, timestamp_ms, NO_HEADERS
        return Finished([(self._names.dead_letters, row)], None, on_durable)

    def _outcome(self, item: Item, answer: Answer, at_ms: int) -> bytes:
        delivery, outcome = item.delivery, answer.outcome
        return self._codec.encode_outcome(
            {
                "delivery_id": delivery.delivery_id,
                "notification_id": delivery.notification_id,
                "event_id": delivery.event_id,
                "recipient_id": delivery.recipient_id,
                "category": delivery.category,
                "channel": delivery.channel,
                "kind": delivery.kind,
                "provider": answer.provider,
                "destination_id": delivery.destination_id,
                "epoch": delivery.epoch,
                "attempt": delivery.attempt,
                "status": outcome.status,
                "reason": outcome.reason,
                "provider_id": outcome.provider_id if isinstance(outcome, Accepted) else None,
                "detail": outcome.detail,
                "possible_repeat": item.entry.doubtful,
                "retry_after_ms": _after(outcome),
                "delivery_topic": item.topic,
                "delivery_offset": item.entry.offset,
                "appended_at_ms": delivery.appended_at_ms,
                "decided_at_ms": delivery.decided_at_ms,
                "answered_at_ms": at_ms,
                "send_ms": answer.send_ms,
            }
        )

    def _receipt(self, delivery: Delivery, kind: str, scope: str | None, at_ms: int) -> bytes:
        return self._codec.encode(
            "receipt",
            {
                "recipient_id": delivery.recipient_id,
                "kind": kind,
                "notification_id": delivery.notification_id,
                "delivery_id": delivery.delivery_id,
                "event_id": delivery.event_id,
                "destination_id": delivery.destination_id,
                "name": scope,
                "occurred_at_ms": at_ms,
            },
        )


def _after(outcome: Outcome) -> int | None:
    return outcome.after_ms if isinstance(outcome, Retry) else None
