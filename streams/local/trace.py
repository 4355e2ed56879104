"""The demo's events: a real trace of 59,835 private messages, given categories and exact times.

The trace (``examples/college_messages.csv.gz``) has what made-up traffic lacks: bursts, nights,
a few very popular people. It names no content and no kinds, and its times are whole minutes. What
is added here is deterministic in the seed and the line number alone:

- a **time** within the minute: the lines of one minute are spread evenly over it, in line order,
  so times never go back;
- a **category**: most lines stay private messages; some stand for likes, payments, sign-in
  warnings and marketing, so that every lane and most rules see traffic.

Invariants: one event for each line; the same seed gives the same bytes; ids are
``college-00001``... by line number, so "the event of line 17" can be found again by hand.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

MINUTE_MS = 60_000
TRACE_NAME = "college_messages.csv.gz"
COLUMNS = ["sent_at_s", "sender", "recipient"]

CATEGORY_PER_MILLE: tuple[tuple[str, int], ...] = (
    ("security", 15),
    ("payment", 25),
    ("marketing", 30),
    ("like", 90),
)
"""Share of lines, in thousandths, that stand for something else than a private message."""

MEMBER = "message"
"""What a line of the trace is: one member wrote to another."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of the trace: ``sender`` wrote to ``recipient`` (numbers from 1)."""

    number: int
    sent_at_ms: int
    sender: int
    recipient: int


class TraceEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as a producer would send it: ``value`` follows ``schemas/event.avsc``."""

    category: str
    recipient_id: str
    sent_at_ms: int
    value: dict[str, object]


class TraceError(Exception):
    """The trace is not where it should be; the message says where that is."""


def trace_path() -> Path:
    """Where the trace is: in ``examples/`` of a checkout, else inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    places = (package.parent / "examples" / TRACE_NAME, package / "examples" / TRACE_NAME)
    for place in places:
        if place.is_file():
            return place
    raise TraceError(f"the demo's trace is missing: expected it at {places[0]}")


def read_trace(path: Path) -> list[Line]:
    """All lines in file order with their times spread within the minute.

    Raises ``TraceError`` if the file has other columns or goes back in time.
    """
    with gzip.open(path, "rt", newline="") as source:
        rows = csv.reader(source)
        if (header := next(rows, [])) != COLUMNS:
            raise TraceError(f"{path} has the columns {header}, expected {COLUMNS}")
        raw = [(int(sent), int(sender), int(recipient)) for sent, sender, recipient in rows]
    if any(later[0] < earlier[0] for earlier, later in itertools.pairwise(raw)):
        raise TraceError(f"{path} is not sorted by sent_at_s")
    return list(_spread(raw))


def _spread(raw: list[tuple[int, int, int]]) -> Iterator[Line]:
    """A minute's lines, evenly over the minute: order is kept and no two share a millisecond."""
    number = 0
    for sent_at_s, group in itertools.groupby(raw, key=lambda row: row[0]):
        minute = list(group)
        for place, (_, sender, recipient) in enumerate(minute):
            number += 1
            within_ms = place * MINUTE_MS // len(minute)
            yield Line(number, sent_at_s * 1_000 + within_ms, sender, recipient)


def recipient_id(member: int) -> str:
    """Member number -> the recipient id that the demo uses: ``member-0017``."""
    return f"member-{member:04d}"


def category_of(line: Line, seed: int) -> str:
    """Category of a line: a hash of seed and line number, so no line depends on another."""
    draw = zlib.crc32(f"{seed}/{line.number}".encode()) % 1_000
    for category, per_mille in CATEGORY_PER_MILLE:
        if draw < per_mille:
            return category
        draw -= per_mille
    return MEMBER


def event_of(line: Line, seed: int) -> TraceEvent:
    """The event that a line stands for."""
    category = category_of(line, seed)
    recipient = recipient_id(line.recipient)
    sender = recipient_id(line.sender)
    value: dict[str, object] = {
        "event_id": f"college-{line.number:05d}",
        "recipient_id": recipient,
        "category": category,
        "created_at_ms": line.sent_at_ms,
        "actor_id": sender if category in {MEMBER, "like"} else "",
        "data": _data(category, sender, line),
    }
    if category == "marketing":
        value["campaign"] = f"autumn-{line.number % 4}"
    return TraceEvent(category, recipient, line.sent_at_ms, value)


def _data(category: str, sender: str, line: Line) -> dict[str, str]:
    """Template variables; the trace has no text, so what is here says only who and what."""
    if category == "payment":
        return {"amount": f"{5 + line.number % 95}.00", "currency": "EUR"}
    if category == "security":
        return {"device": ("phone", "laptop", "tablet")[line.number % 3]}
    if category == "marketing":
        return {"headline": "What is new this term"}
    return {"actor": sender}


def events_of(lines: Iterable[Line], seed: int) -> Iterator[TraceEvent]:
    """The whole trace as events, in order of time."""
    return (event_of(line, seed) for line in lines)
