"""The demo's members: preferences and destinations of each, drawn from a seed.

Nothing here is anybody's: zones, habits and addresses are drawn so that each rule meets members
to whom it applies (the shares are named below), and the addresses are of the kinds reserved for
fiction (``.test`` mailboxes, 555-01xx numbers, hexadecimal noise for device tokens).

Invariants: a member's record depends on the seed and the member's number alone, so the same seed
gives the same bytes whatever the order; no two members share an address (an address belongs to
the one who registered it last, and here nobody should lose one).
"""

from __future__ import annotations

import hashlib
import random

import msgspec

from streams.local.trace import recipient_id

MEMBERS = 1_899

ZONES: tuple[tuple[str, int], ...] = (
    ("America/Los_Angeles", 22), ("America/New_York", 16), ("America/Chicago", 8),
    ("America/Sao_Paulo", 5), ("America/Mexico_City", 4), ("Europe/London", 8),
    ("Europe/Berlin", 8), ("Europe/Madrid", 4), ("Africa/Lagos", 3), ("Africa/Johannesburg", 2),
    ("Asia/Kolkata", 6), ("Asia/Kathmandu", 1), ("Asia/Shanghai", 4), ("Asia/Tokyo", 4),
    ("Australia/Sydney", 2), ("Australia/Lord_Howe", 1), ("Pacific/Auckland", 1),
    ("Pacific/Apia", 1),
)  # fmt: skip
"""IANA zones and their weights: both hemispheres, half and quarter hours, no DST and odd DST."""

NIGHTS: tuple[tuple[int, int], ...] = ((22 * 60, 7 * 60), (23 * 60, 8 * 60), (21 * 60, 6 * 60 + 30))
"""Quiet hours in local minutes of day; they cross midnight, as people's nights do."""

EVERY_DAY, WEEKDAYS = 0b1111111, 0b0011111

AREA_CODES = (
    202, 206, 212, 213, 214, 303, 305, 312, 313, 314, 404, 412, 415, 503, 512, 602, 612, 617, 702,
)  # fmt: skip
"""Each has the hundred numbers 555-0100 to 555-0199, which no one can be assigned."""

QUIET_SHARE, WEEKEND_LIE_IN_SHARE = 0.60, 0.15
OPT_OUT_CATEGORY_SHARE, OPT_OUT_CHANNEL_SHARE, OPT_OUT_CELL_SHARE = 0.06, 0.05, 0.08
OPT_OUT_ALL_SHARE, MARKETING_OPT_IN_SHARE, MUTED_ACTOR_SHARE = 0.02, 0.35, 0.03
IPHONE_SHARE, ANDROID_SHARE, EMAIL_SHARE, SMS_SHARE, WEBHOOK_SHARE = 0.48, 0.42, 0.82, 0.25, 0.03

DIGESTS = ("immediate", "hourly", "daily@08:00", "daily@18:30", None, None)
"""Choices for private messages; ``None`` leaves it to the catalogue."""


class Member(msgspec.Struct, frozen=True):
    """One member's control records, ready to encode as ``preference`` and ``destination``."""

    recipient_id: str
    preference: dict[str, object]
    destinations: tuple[dict[str, object], ...]


def population(seed: int, at_ms: int, webhook_url: str, members: int = MEMBERS) -> list[Member]:
    """Everyone. ``at_ms`` is when they signed up; ``webhook_url`` is the local receiver."""
    return [member_of(number, seed, at_ms, webhook_url) for number in range(1, members + 1)]


def member_of(number: int, seed: int, at_ms: int, webhook_url: str) -> Member:
    """One member, drawn from a generator of their own."""
    draw = random.Random(f"{seed}/member/{number}")
    recipient = recipient_id(number)
    return Member(
        recipient_id=recipient,
        preference=_preference(draw, recipient, at_ms),
        destinations=tuple(_destinations(draw, number, recipient, at_ms, webhook_url)),
    )


def _preference(draw: random.Random, recipient: str, at_ms: int) -> dict[str, object]:
    (zone,) = draw.choices([name for name, _ in ZONES], [weight for _, weight in ZONES])
    categories: dict[str, bool] = {}
    channels: dict[str, bool] = {}
    cells: dict[str, bool] = {}
    if draw.random() < OPT_OUT_CATEGORY_SHARE:
        categories[draw.choice(("like", "payment", "message"))] = False
    if draw.random() < MARKETING_OPT_IN_SHARE:
        categories["marketing"] = True
    if draw.random() < OPT_OUT_CHANNEL_SHARE:
        channels[draw.choice(("email", "sms", "push"))] = False
    if draw.random() < OPT_OUT_CELL_SHARE:
        cells[draw.choice(("message/email", "like/push", "payment/sms"))] = False
    digest = draw.choice(DIGESTS)
    muted = [f"actor:{recipient_id(draw.randint(1, MEMBERS))}"]
    return {
        "recipient_id": recipient,
        "default": False if draw.random() < OPT_OUT_ALL_SHARE else None,
        "categories": categories,
        "channels": channels,
        "cells": cells,
        "zone": zone,
        "locale": draw.choice(("en", "en", "en", "en-GB", "es", "de", "fr")),
        "quiet_hours": _quiet_hours(draw),
        "snooze_until_ms": 0,
        "muted": muted if draw.random() < MUTED_ACTOR_SHARE else [],
        "digests": {"message": digest} if digest else {},
        "channel_order": {},
        "updated_at_ms": at_ms,
    }


def _quiet_hours(draw: random.Random) -> list[dict[str, object]]:
    """No quiet hours, the same night every day, or a longer one at the weekend."""
    if draw.random() >= QUIET_SHARE:
        return []
    start, end = draw.choice(NIGHTS)
    if draw.random() >= WEEKEND_LIE_IN_SHARE:
        return [{"start_minute": start, "end_minute": end, "weekdays": EVERY_DAY}]
    return [
        {"start_minute": start, "end_minute": end, "weekdays": WEEKDAYS},
        {"start_minute": start, "end_minute": 10 * 60, "weekdays": EVERY_DAY & ~WEEKDAYS},
    ]


def _destinations(
    draw: random.Random, number: int, recipient: str, at_ms: int, webhook_url: str
) -> list[dict[str, object]]:
    """Destinations by the shares above; whoever would have none gets a mailbox."""
    phone = f"+1{AREA_CODES[number // 100]}55501{number % 100:02d}"
    noise = draw.random()
    apple = hashlib.sha256(f"{recipient}/apns/{noise}".encode()).hexdigest()
    google = hashlib.sha256(f"{recipient}/fcm/{noise}".encode()).hexdigest()
    candidates: tuple[tuple[float, str, str, dict[str, str]], ...] = (
        (IPHONE_SHARE, "apns", apple, {"environment": "production"}),
        (ANDROID_SHARE, "fcm", f"{google[:22]}:APA91b{google}", {}),
        (EMAIL_SHARE, "email", f"{recipient}@members.test", {}),
        (SMS_SHARE, "sms", phone, {}),
        (WEBHOOK_SHARE, "webhook", f"{webhook_url}/{recipient}", {}),
    )
    chosen = [
        (kind, address, attributes)
        for share, kind, address, attributes in candidates
        if draw.random() < share
    ] or [("email", f"{recipient}@members.test", {})]
    return [
        {
            "recipient_id": recipient,
            "destination_id": f"{recipient}-{kind}",
            "kind": kind,
            "address": address,
            "registered_at_ms": at_ms,
            "attributes": attributes,
            "removed": False,
            "at_ms": at_ms,
            "reason": "",
        }
        for kind, address, attributes in chosen
    ]
