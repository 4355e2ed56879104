"""Every topic of Flowstate, once: names, keys, retention, which role reads it in which lane.

All topics but ``kill-switch`` and ``destination-claims`` are keyed by recipient id and have the
same number of partitions, so a recipient's whole life is on one partition. ``topology.md`` is
drawn from this file and ``tables.py``; a test fails when it drifts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

EVENTS_CRITICAL = "events.critical"
EVENTS_NORMAL = "events.normal"
EVENTS_BULK = "events.bulk"
PREFERENCES = "preferences"
DESTINATIONS = "destinations"
RECEIPTS = "receipts"
CANCELLATIONS = "cancellations"
FEEDBACK = "feedback"
KILL_SWITCH = "kill-switch"
DESTINATION_CLAIMS = "destination-claims"
TICKS = "ticks"
ERASURES = "erasures"
DECISIONS = "decisions"
OUTCOMES = "outcomes"
DEAD_LETTERS = "dead-letters"
LOOKS = "looks"
LEDGER_HOURS = "ledger-hours"
STATE_CHANGELOG = "flowstate-decide-state-changelog"

KINDS = ("apns", "fcm", "sms", "email", "webpush", "webhook", "chat")
EVENTS = (EVENTS_CRITICAL, EVENTS_NORMAL, EVENTS_BULK)
CONTROL = (
    PREFERENCES, DESTINATIONS, RECEIPTS, CANCELLATIONS, FEEDBACK, DESTINATION_CLAIMS, ERASURES,
    TICKS,
)  # fmt: skip

FROM_OUTSIDE = frozenset(
    (*EVENTS, PREFERENCES, DESTINATIONS, RECEIPTS, CANCELLATIONS, KILL_SWITCH, TICKS)
)
"""What people and other services write to: none of it needs large records."""


def deliveries(kind: str, critical: bool = False) -> str:
    """Deliveries topic of a kind of destination; the critical lane has a topic of its own."""
    return f"deliveries.{kind}.critical" if critical else f"deliveries.{kind}"


DELIVERIES = tuple(deliveries(k, c) for k in KINDS for c in (True, False))

Cleanup = Literal["delete", "compact"]
Lane = Literal["control", "critical", "normal", "bulk", "log"]


class TopicSpec(msgspec.Struct, frozen=True):
    """One topic as it is created and checked."""

    name: str
    doc: str
    schema: str | None
    """Record type in ``schemas/``; ``None`` for raw bytes."""
    cleanup: Cleanup = "delete"
    retention_hours: int | None = 7 * 24
    partitions: Literal["all", "one"] = "all"
    append_time: bool = True
    """LogAppendTime in wall mode; stream mode keeps the producer's time."""


DAYS = 24
SPECS: tuple[TopicSpec, ...] = (
    TopicSpec(EVENTS_CRITICAL, "Events that pass quiet hours and limits.", "event"),
    TopicSpec(EVENTS_NORMAL, "Ordinary events.", "event"),
    TopicSpec(EVENTS_BULK, "Campaigns and backfills; never in the way of the others.", "event"),
    TopicSpec(
        PREFERENCES, "What each recipient chose; latest wins.", "preference", "compact", None
    ),
    TopicSpec(
        DESTINATIONS, "Addresses registered and removed.", "destination", "delete", 30 * DAYS
    ),
    TopicSpec(RECEIPTS, "Evidence of delivery, opens, clicks, bounces, complaints.", "receipt"),
    TopicSpec(CANCELLATIONS, "Withdrawals of what was not sent yet.", "cancellation"),
    TopicSpec(FEEDBACK, "Provider answers that must be decided again.", "feedback"),
    TopicSpec(
        KILL_SWITCH,
        "Stops a campaign, category, kind or everything.",
        "kill_switch",
        "compact",
        None,
        "one",
    ),
    TopicSpec(
        DESTINATION_CLAIMS,
        "Who an address belongs to, keyed by its hash.",
        "claim",
        "compact",
        None,
    ),
    TopicSpec(
        ERASURES,
        "Who is to be forgotten: a keyed hash, and the id encrypted.",
        "erasure",
        "delete",
        31 * DAYS,
    ),
    TopicSpec(
        TICKS,
        "Moves stream time on when no event does (stream mode); else, tells the broker's time.",
        None,
        "delete",
        DAYS,
    ),
    *(
        TopicSpec(name, f"Messages for {name.split('.')[1]}.", "delivery", "delete", 2 * DAYS)
        for name in DELIVERIES
    ),
    TopicSpec(DECISIONS, "Every verdict with its reason; the ledger's log.", "decision"),
    TopicSpec(OUTCOMES, "Every provider answer; the ledger's log.", "outcome"),
    TopicSpec(
        DEAD_LETTERS,
        "What could not be decided or delivered, with its bytes.",
        "dead_letter",
        "delete",
        30 * DAYS,
    ),
    TopicSpec(
        LOOKS,
        "Who looked at whose history, when; ids of people are keyed hashes.",
        "look",
        "delete",
        400 * DAYS,
    ),
    TopicSpec(
        LEDGER_HOURS,
        "Counts by hour of the ledger, so that they outlive its disk.",
        None,
        "compact",
        None,
    ),
    TopicSpec(
        STATE_CHANGELOG,
        "State of the decide role, restored from here.",
        None,
        "compact",
        None,
        append_time=False,
    ),
)
BY_NAME = {spec.name: spec for spec in SPECS}
