"""What producers send in one simulation: people, their choices and changes of mind, and events.

Small numbers on purpose: few people to whom much happens find more than many to whom little does.
Times are short (windows of seconds, quiet hours of minutes), so that everything that can happen in
a week happens in two simulated minutes.

Invariant: everything is drawn from one seed, before the simulation begins.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from streams import topics
from streams.codec import Codec
from streams.core.model import PRIORITY_RANK
from streams.core.policy import Category, DigestRule, LimitRule, Policy, RetryRule
from streams.local.garbage import garbage
from streams.partitioning import partition_for
from streams.simulation.loop import EPOCH_MS

SECOND = 1_000
LOAD_S = 60
"""Simulated seconds during which things are sent."""
EVENT_TOPIC = {
    "critical": topics.EVENTS_CRITICAL,
    "normal": topics.EVENTS_NORMAL,
    "bulk": topics.EVENTS_BULK,
}
RETRY = RetryRule(attempts_max=6, delay_ms=300, delay_ms_max=4 * SECOND)
EVERY_DAY = 0b1111111


def policy() -> Policy:
    """One category for each way through the rules, all in a hurry."""
    return Policy(
        version="simulation",
        categories={
            one.name: one
            for one in (
                Category(
                    "message",
                    channels=("push", "email", "webhook"),
                    digest=DigestRule("lookback", window_ms=8 * SECOND, key=("actor_id",)),
                    limits=(LimitRule("category", 4, 10 * SECOND, "digest"),),
                    expires_after_ms=60 * SECOND,
                    retry=RETRY,
                ),
                Category(
                    "security",
                    priority="critical",
                    mandatory=True,
                    channels=("push", "sms", "email"),
                    route="all",
                    expires_after_ms=40 * SECOND,
                    retry=RETRY,
                ),
                Category(
                    "payment",
                    channels=("push", "email", "sms"),
                    route="escalate",
                    escalate_after_ms=5 * SECOND,
                    quiet_action="downgrade",
                    expires_after_ms=60 * SECOND,
                    retry=RETRY,
                ),
                Category(
                    "like",
                    channels=("push",),
                    quiet_action="digest",
                    digest=DigestRule("window", window_ms=6 * SECOND, items_max=5),
                    expires_after_ms=80 * SECOND,
                    retry=RETRY,
                ),
                Category(
                    "news",
                    channels=("webhook", "email"),
                    limits=(LimitRule("category", 3, 10 * SECOND, "defer"),),
                    expires_after_ms=50 * SECOND,
                    retry=RETRY,
                ),
                Category(
                    "marketing",
                    priority="bulk",
                    channels=("email", "push"),
                    quiet_action="drop",
                    on_ambiguous="give_up",
                    limits=(LimitRule("category", 3, 20 * SECOND, "drop"),),
                    expires_after_ms=30 * SECOND,
                    retry=RETRY,
                ),
            )
        },
        limits=(LimitRule("recipient", 30, 30 * SECOND, "defer"),),
        dedupe_horizon_ms=86_400_000,
        delivery_valid_ms=6 * SECOND,
        release_jitter_ms=2 * SECOND,
        release_lead_ms=0,
    )


class Sending(msgspec.Struct, frozen=True):
    """One record that a producer will send, or a few that it sends at once."""

    at_us: int
    topic: str
    partition: int
    key: bytes
    value: bytes | None


class Script(msgspec.Struct, frozen=True):
    """Everything that will be sent, in order of time."""

    sendings: tuple[Sending, ...]
    dead_addresses: frozenset[str]
    opted_out_numbers: frozenset[str]


class Writer:
    """Draws the script of one seed."""

    def __init__(self, seed: str, codec: Codec, partitions: int) -> None:
        self._draw = random.Random(seed)
        self._codec = codec
        self._partitions = partitions
        self._policy = policy()
        self._people = [f"person-{n}" for n in range(self._draw.randint(3, 8))]
        self._sendings: list[Sending] = []
        self._events: list[tuple[int, str, str, str]] = []
        self._addresses: dict[str, list[str]] = {}

    def script(self, with_garbage: bool, with_repeats: bool, dead_share: float) -> Script:
        """Everybody signs up, then things happen."""
        draw = self._draw
        for person in self._people:
            self._sign_up(person)
        for number in range(draw.randint(20, 70)):
            self._event(number)
        for _ in range(draw.randint(2, 14)):
            self._change(draw.choice(self._people))
        if with_repeats:
            self._repeat()
        if with_garbage:
            self._rubbish()
        every = sorted(address for one in self._addresses.values() for address in one)
        dead = frozenset(address for address in every if draw.random() < dead_share)
        numbers = frozenset(a for a in every if a.startswith("+") and draw.random() < dead_share)
        self._sendings.sort(key=lambda one: one.at_us)
        return Script(tuple(self._sendings), dead, numbers - dead)

    # -- people

    def _sign_up(self, person: str) -> None:
        draw = self._draw
        at_us = draw.randint(0, 500_000)
        number = int(person.rpartition("-")[2])
        noise = draw.getrandbits(64)
        addresses = {
            "apns": f"{noise:016x}" * 4,
            "email": f"{person}@example.test",
            "sms": f"+1202555{100 + number:04d}",
            "webhook": f"https://hooks.example.test/{person}/{noise:x}",
        }
        chosen = [kind for kind in addresses if draw.random() < 0.7] or ["email"]
        self._addresses[person] = [addresses[kind] for kind in chosen]
        for kind in chosen:
            self._send("destination", topics.DESTINATIONS, person, at_us, {
                "recipient_id": person, "destination_id": f"{person}-{kind}", "kind": kind,
                "address": addresses[kind], "registered_at_ms": EPOCH_MS - 1_000,
                "attributes": {}, "removed": False, "at_ms": EPOCH_MS - 1_000, "reason": "",
            })  # fmt: skip
        if draw.random() < 0.7:
            self._preference(person, at_us + 1)

    def _preference(self, person: str, at_us: int) -> None:
        draw = self._draw
        names = sorted(self._policy.categories)
        categories = {draw.choice(names): False} if draw.random() < 0.5 else {}
        channels = {draw.choice(("push", "email", "sms")): False} if draw.random() < 0.3 else {}
        default = False if draw.random() < 0.15 else None
        quiet = []
        if draw.random() < 0.4:
            # Of the minutes 12:00, 12:01 and 12:02, in UTC: one or two of them.
            start = 12 * 60 + draw.randint(0, 1)
            quiet = [{"start_minute": start, "end_minute": start + draw.randint(1, 2),
                      "weekdays": EVERY_DAY}]  # fmt: skip
        self._send("preference", topics.PREFERENCES, person, at_us, {
            "recipient_id": person, "default": default, "categories": categories,
            "channels": channels, "cells": {}, "zone": "UTC", "locale": "en",
            "quiet_hours": quiet, "snooze_until_ms": 0, "muted": [], "digests": {},
            "channel_order": {}, "updated_at_ms": EPOCH_MS + at_us // 1_000,
        })  # fmt: skip

    def _change(self, person: str) -> None:
        """Somebody changes their mind, sees something, leaves, or moves an address."""
        draw = self._draw
        at_us = draw.randint(1_000_000, LOAD_S * 1_000_000)
        what = draw.random()
        if what < 0.45:
            self._preference(person, at_us)
        elif what < 0.6:
            self._cancellation(at_us)
        elif what < 0.8:
            self._receipt(at_us)
        elif what < 0.9:
            self._unsubscribed(person, at_us)
        else:
            self._move(person, at_us)

    def _move(self, person: str, at_us: int) -> None:
        """A device changes hands: somebody else registers its address."""
        old = self._draw.choice(self._people)
        address = next((a for a in self._addresses[old] if len(a) == 64), None)
        if address is None or old == person:
            return
        at_ms = EPOCH_MS + at_us // 1_000
        self._send("destination", topics.DESTINATIONS, person, at_us, {
            "recipient_id": person, "destination_id": f"{person}-second", "kind": "apns",
            "address": address, "registered_at_ms": at_ms, "attributes": {},
            "removed": False, "at_ms": at_ms, "reason": "",
        })  # fmt: skip

    def _cancellation(self, at_us: int) -> None:
        event = self._some_event(at_us)
        if event is not None:
            self._send("cancellation", topics.CANCELLATIONS, event[2], at_us, {
                "recipient_id": event[2], "event_id": event[1], "collapse_key": None,
                "requested_at_ms": EPOCH_MS + at_us // 1_000,
            })  # fmt: skip

    def _receipt(self, at_us: int) -> None:
        event = self._some_event(at_us)
        if event is not None:
            self._send("receipt", topics.RECEIPTS, event[2], at_us, {
                "recipient_id": event[2], "kind": "seen", "event_id": event[1],
                "occurred_at_ms": EPOCH_MS + at_us // 1_000,
            })  # fmt: skip

    def _unsubscribed(self, person: str, at_us: int) -> None:
        scope = self._draw.choice(("all", "channel:email", "category:news", "category:message"))
        self._send("receipt", topics.RECEIPTS, person, at_us, {
            "recipient_id": person, "kind": "unsubscribed", "name": scope,
            "occurred_at_ms": EPOCH_MS + at_us // 1_000,
        })  # fmt: skip

    def _some_event(self, at_us: int) -> tuple[int, str, str, str] | None:
        near = [event for event in self._events if event[0] - 2_000_000 < at_us]
        return self._draw.choice(near) if near else None

    # -- events

    def _event(self, number: int) -> None:
        draw = self._draw
        person = draw.choice(self._people)
        at_us = draw.randint(600_000, LOAD_S * 1_000_000)
        name = draw.choice(sorted(self._policy.categories))
        category = self._policy.categories[name]
        priority = category.priority
        if draw.random() < 0.1:
            priority = max(priority, "normal", key=PRIORITY_RANK.__getitem__)
        event_id = f"event-{number}"
        created_at_ms = EPOCH_MS + at_us // 1_000
        self._events.append((at_us, event_id, person, name))
        fields: dict[str, Any] = {
            "event_id": event_id, "recipient_id": person, "category": name,
            "created_at_ms": created_at_ms, "actor_id": f"actor-{draw.randint(0, 2)}",
            "data": {"sender": "Ann", "text": "hello"},
        }  # fmt: skip
        if draw.random() < 0.1:
            fields["collapse_key"] = f"thread-{draw.randint(0, 1)}"
        if draw.random() < 0.1:
            fields["send_at_ms"] = created_at_ms + draw.randint(1, 20) * SECOND
        if draw.random() < 0.15:
            fields["expires_at_ms"] = created_at_ms + draw.randint(500, 20 * SECOND)
        wrong = draw.random() < 0.05
        self._send("event", EVENT_TOPIC[priority], person, at_us, fields, wrong)

    def _repeat(self) -> None:
        """Some records are sent two or three times, at any time."""
        for sending in list(self._sendings):
            if sending.topic in topics.EVENTS or sending.topic == topics.RECEIPTS:
                for _ in range(self._draw.choice((0, 0, 1, 2))):
                    later_us = sending.at_us + self._draw.randint(0, 10_000_000)
                    self._sendings.append(msgspec.structs.replace(sending, at_us=later_us))

    def _rubbish(self) -> None:
        headers = {name: c.header for name, c in self._codec.contracts.current.items()}
        for one in garbage(self._draw.getrandbits(32), headers):
            key = one.key.encode()
            at_us = self._draw.randint(0, LOAD_S * 1_000_000)
            partition = partition_for(key, self._partitions)
            self._sendings.append(Sending(at_us, one.topic, partition, key, one.value))

    def _send(
        self, record: str, topic: str, person: str, at_us: int, fields: dict[str, Any],
        wrong: bool = False,
    ) -> None:  # fmt: skip
        key = person.encode()
        partition = partition_for(key, self._partitions)
        if wrong:
            partition = (partition + 1) % self._partitions
        value = self._codec.encode(record, fields)
        self._sendings.append(Sending(at_us, topic, partition, key, value))
