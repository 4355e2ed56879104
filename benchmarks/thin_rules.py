"""The thin job that stream processors are compared with: the least that is still a notifier.

An Avro event in; one preference (derived, not stored); at most three deliveries an hour for each
recipient; what is over goes to a list that keeps the latest twenty; an Avro delivery out. The same
rules run on the product's engine (``thin_job``), on the bare protocol (``twins/bare``) and in
ordinary Faust (``twins/thin_faust``).

Invariant: the hour is the event's own, so every way of running it must deliver the same number,
and ``oracle`` says which.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import fastavro
import msgspec

from benchmarks.people import Record

EVENTS = "thin.events"
DELIVERIES_MAX, KEPT_MAX, HOUR_MS = 3, 20, 3_600_000
CATEGORIES = ("like", "comment", "follow", "billing", "security")
FIRST_MS = 1_700_000_000_000
EVENT = fastavro.parse_schema(
    {
        "type": "record",
        "name": "thin_event",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "recipient_id", "type": "string"},
            {"name": "category", "type": "string"},
            {"name": "created_at", "type": "long"},
            {"name": "data", "type": {"type": "map", "values": "string"}},
        ],
    }
)
DELIVERY = fastavro.parse_schema(
    {
        "type": "record",
        "name": "thin_delivery",
        "fields": [
            {"name": "delivery_id", "type": "string"},
            {"name": "recipient_id", "type": "string"},
            {"name": "title", "type": "string"},
            {"name": "body", "type": "string"},
            {"name": "at", "type": "long"},
        ],
    }
)
encode_state = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder().decode


def decode_state(value: bytes | None) -> list[Any]:
    """[hour, deliveries in it, ids over the limit]."""
    return _decode_state(value) if value else [0, 0, []]


def opted_out(recipient_id: str, category: str) -> bool:
    """A preference that needs no state: a fifth of all pairs."""
    return (sum(recipient_id.encode()) + len(category)) % 5 == 0


def apply(value: bytes, state: list[Any]) -> tuple[bool, bytes | None]:
    """Decides one event on ``state``, in place: (state changed, delivery)."""
    event: Any = fastavro.schemaless_reader(io.BytesIO(value), EVENT, None)
    if opted_out(event["recipient_id"], event["category"]):
        return False, None
    hour = event["created_at"] // HOUR_MS
    if state[0] != hour:
        state[0], state[1] = hour, 0
    if state[1] >= DELIVERIES_MAX:
        state[2].append(event["event_id"])
        del state[2][:-KEPT_MAX]
        return True, None
    state[1] += 1
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out,
        DELIVERY,
        {
            "delivery_id": event["event_id"],
            "recipient_id": event["recipient_id"],
            "title": event["category"] + " update",
            "body": event["data"]["actor"],
            "at": event["created_at"],
        },
    )
    return True, out.getvalue()


def events(count: int, recipients: int, topic: str = EVENTS) -> Iterator[Record]:
    """The load, the same each time."""
    draw, buffer = random.Random(1), io.BytesIO()
    for number in range(count):
        recipient = f"user-{draw.randrange(recipients)}"
        buffer.seek(0)
        buffer.truncate()
        fastavro.schemaless_writer(
            buffer,
            EVENT,
            {
                "event_id": f"{number:032x}",
                "recipient_id": recipient,
                "category": draw.choice(CATEGORIES),
                "created_at": FIRST_MS + number,
                "data": {"actor": f"user-{number % 997}", "post": f"post-{number % 9973}"},
            },
        )
        yield topic, recipient.encode(), buffer.getvalue()


def oracle(count: int, recipients: int) -> int:
    """How many deliveries there must be."""
    draw = random.Random(1)
    sent: dict[tuple[str, int], int] = {}
    for number in range(count):
        recipient = f"user-{draw.randrange(recipients)}"
        if not opted_out(recipient, draw.choice(CATEGORIES)):
            at = recipient, (FIRST_MS + number) // HOUR_MS
            sent[at] = sent.get(at, 0) + 1
    return sum(min(DELIVERIES_MAX, count) for count in sent.values())
