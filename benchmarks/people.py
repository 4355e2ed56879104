"""Made-up people and what happens to them: the load that the full rules are measured with.

The shares are those of a product with messages, likes, payments, sign-ins and marketing, on the
shipped catalogue. Zones are spread evenly around the clock, so that at any time of day the same
share of people is in quiet hours and a figure does not depend on when it was measured.

Invariant: everything is drawn from a seed; event ids differ between runs (``run``), because what
was seen before is a duplicate.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from streams import topics
from streams.wire.contracts import load_contracts
from streams.wire.primitives import Writer
from streams.wire.writer import compile_writer

ZONES = (
    "Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles", "America/Denver",
    "America/Chicago", "America/New_York", "America/Halifax", "America/Sao_Paulo",
    "Atlantic/South_Georgia", "Atlantic/Azores", "Europe/London", "Europe/Berlin",
    "Europe/Helsinki", "Europe/Istanbul", "Asia/Dubai", "Asia/Karachi", "Asia/Dhaka",
    "Asia/Bangkok", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Noumea",
    "Pacific/Auckland", "Pacific/Pago_Pago",
)  # fmt: skip
QUIET_SHARE = 0.5
NIGHT = (22 * 60, 7 * 60)
OPT_OUT_SHARE, MARKETING_SHARE, DIGEST_CHOICE_SHARE = 0.10, 0.35, 0.3
CHANNEL_OPT_OUT_SHARE, CELL_OPT_OUT_SHARE = 0.05, 0.08
IPHONE_SHARE, ANDROID_SHARE, EMAIL_SHARE, SMS_SHARE = 0.5, 0.4, 0.6, 0.2
DUPLICATE_SHARE = 0.005
DUPLICATE_WITHIN = 1_000

MIX: tuple[tuple[str, int, str], ...] = (
    ("message", 45, topics.EVENTS_NORMAL),
    ("like", 30, topics.EVENTS_NORMAL),
    ("payment", 8, topics.EVENTS_NORMAL),
    ("security", 2, topics.EVENTS_CRITICAL),
    ("marketing", 15, topics.EVENTS_BULK),
)
"""Category, its share in percent, and the lane that its events come in on."""

Record = tuple[str, bytes, bytes]
"""(topic, key, value)."""


def recipient_id(number: int) -> str:
    """As real ones are: a prefix and a number, some 16 bytes."""
    return f"member-{number:08d}"


@cache
def writers() -> dict[str, Writer]:
    """Record name -> a function that encodes a mapping of all its fields."""
    current = load_contracts().current
    return {
        name: compile_writer(current[name].schema, current[name].header, mappings=True)
        for name in ("event", "preference", "destination")
    }


def population(
    recipients: int, at_ms: int, seed: int = 7, phones_only: bool = False
) -> Iterator[Record]:
    """Preferences and addresses of everyone.

    ``phones_only``: an iPhone each and no quiet hours, for latencies that only machines cause.
    """
    write = writers()
    for number in range(recipients):
        draw = random.Random(seed * 1_000_003 + number)
        recipient = recipient_id(number)
        key = recipient.encode()
        chosen = preference(draw, recipient, at_ms)
        if phones_only:
            chosen["quiet_hours"] = []
        yield topics.PREFERENCES, key, write["preference"](chosen)
        for destination in destinations(draw, number, recipient, at_ms, phones_only):
            yield topics.DESTINATIONS, key, write["destination"](destination)


def preference(draw: random.Random, recipient: str, at_ms: int) -> dict[str, Any]:
    """What one recipient chose."""
    categories = {}
    if draw.random() < OPT_OUT_SHARE:
        categories[draw.choice(("like", "message", "payment"))] = False
    if draw.random() < MARKETING_SHARE:
        categories["marketing"] = True
    quiet = draw.random() < QUIET_SHARE
    window = {"start_minute": NIGHT[0], "end_minute": NIGHT[1], "weekdays": 127}
    digest = draw.choice(("hourly", "immediate", "daily@18:30"))
    return {
        "recipient_id": recipient,
        "default": None,
        "categories": categories,
        "channels": {"sms": False} if draw.random() < CHANNEL_OPT_OUT_SHARE else {},
        "cells": {"message/email": False} if draw.random() < CELL_OPT_OUT_SHARE else {},
        "zone": draw.choice(ZONES),
        "locale": "en",
        "quiet_hours": [window] if quiet else [],
        "snooze_until_ms": 0,
        "muted": [],
        "digests": {"message": digest} if draw.random() < DIGEST_CHOICE_SHARE else {},
        "channel_order": {},
        "updated_at_ms": at_ms,
    }


def destinations(
    draw: random.Random, number: int, recipient: str, at_ms: int, phones_only: bool
) -> Iterator[dict[str, Any]]:
    """One recipient's addresses; whoever would have none gets a mailbox."""
    token = hashlib.sha256(recipient.encode()).hexdigest()
    candidates: tuple[tuple[float, str, str, dict[str, str]], ...] = (
        (IPHONE_SHARE, "apns", token, {"environment": "production"}),
        (ANDROID_SHARE, "fcm", f"{token[:22]}:APA91b{token}", {}),
        (EMAIL_SHARE, "email", f"{recipient}@members.test", {}),
        (SMS_SHARE, "sms", f"+1202{number % 10_000_000:07d}", {}),
    )
    chosen = [each[1:] for each in candidates if draw.random() < each[0]] or [candidates[2][1:]]
    if phones_only:
        chosen = [candidates[0][1:]]
    for kind, address, attributes in chosen:
        yield {
            "recipient_id": recipient,
            "destination_id": f"{kind}-1",
            "kind": kind,
            "address": address,
            "registered_at_ms": at_ms,
            "attributes": attributes,
            "removed": False,
            "at_ms": at_ms,
            "reason": "",
        }


def events(
    count: int, recipients: int, run: str, at_ms: int, seed: int = 11, only: str = ""
) -> Iterator[Record]:
    """``count`` events for recipients drawn evenly; some come twice, as producers retry.

    ``only``: all of one category.
    """
    draw = random.Random(seed)
    write = writers()["event"]
    mix = [each for each in MIX if only in ("", each[0])]
    kinds = draw.choices(
        [(category, topic) for category, _, topic in mix],
        [share for _, share, _ in mix],
        k=DUPLICATE_WITHIN,
    )
    last: list[Record] = []
    for number in range(count):
        if last and draw.random() < DUPLICATE_SHARE:
            yield draw.choice(last)
            continue
        category, topic = kinds[draw.randrange(DUPLICATE_WITHIN)]
        record = event(write, category, topic, number, draw.randrange(recipients), run, at_ms)
        if len(last) < DUPLICATE_WITHIN:
            last.append(record)
        else:
            last[number % DUPLICATE_WITHIN] = record
        yield record


def event(
    write: Writer, category: str, topic: str, number: int, who: int, run: str, at_ms: int
) -> Record:
    """One event."""
    recipient = recipient_id(who)
    actor = number % 997
    value = write(
        {
            "event_id": f"{run}-{number:012d}",
            "recipient_id": recipient,
            "category": category,
            "created_at_ms": at_ms,
            "actor_id": recipient_id(actor),
            "data": {"sender": f"Member {actor}", "text": "See you at the station at seven?"},
            "priority": None,
            "collapse_key": None,
            "expires_at_ms": None,
            "send_at_ms": None,
            "send_at_local": None,
            "supersedes": None,
            "campaign": "spring-2026" if category == "marketing" else None,
        }
    )
    return topic, recipient.encode(), value
