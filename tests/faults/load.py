"""What the fault runs send: two hundred people, their choices, and events at a steady rate.

Everything is drawn from the seed and the number of the run, so that a row can be repeated. What
Kafka acknowledged is kept as the input ledger: whatever happens, it must be in the log afterwards.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams import topics
from streams.codec import Codec
from streams.engine.topics_admin import LARGE_RECORD_BYTES
from streams.partitioning import partition_for
from tests.raw_names import send_named

PEOPLE = 200
CATEGORIES = ("message", "security", "payment", "like", "news", "marketing")
EVENT_TOPICS = {"security": topics.EVENTS_CRITICAL, "marketing": topics.EVENTS_BULK}
EVERY_DAY = 0b1111111


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Load:
    """A producer with the input ledger. Use ``async with``."""

    def __init__(self, bootstrap: str, partitions: int, seed: int, webhook_url: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5,
            max_request_size=LARGE_RECORD_BYTES,
        )  # fmt: skip
        self._bootstrap = bootstrap
        self._codec = Codec()
        self._partitions = partitions
        self._webhook_url = webhook_url
        self.draw = random.Random(f"{seed}/load")
        self.people = [f"person-{number:03}" for number in range(PEOPLE)]
        self.acknowledged: list[tuple[str, int, int]] = []
        """(topic, partition, offset) of every record that Kafka acknowledged."""
        self.refused = 0
        self.hot = ""
        self.hot_share = 0.0
        """So much of the events is for the ``hot`` person."""
        self.events_sent = 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda _: None

    async def __aenter__(self) -> Load:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    # -- records

    async def send(self, record: str, topic: str, person: str, fields: dict[str, Any]) -> None:
        """One record, acknowledged or counted as refused when this returns."""
        await self.send_bytes(topic, person.encode(), self._codec.encode(record, fields))

    async def send_bytes(
        self, topic: str, key: bytes, value: bytes | None, partition: int | None = None
    ) -> None:
        """Bytes as they are."""
        where = partition_for(key, self._partitions) if partition is None else partition
        try:
            stored = await self._producer.send_and_wait(topic, value, key=key, partition=where)
        except KafkaError:
            self.refused += 1
            return
        self.acknowledged.append((topic, where, stored.offset))

    async def send_under_names(self, topic: str, key: bytes, values: dict[bytes, bytes]) -> None:
        """Bytes, each with a header whose name they have here: any bytes."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, enable_idempotence=False)
        where = TopicPartition(topic, partition_for(key, self._partitions))
        async with producer:
            for name, value in values.items():
                offset = await send_named(producer, where, key, value, name)
                self.acknowledged.append((topic, where.partition, offset))

    # -- people

    async def sign_up(self) -> None:
        """Everybody's addresses and choices."""
        sends = []
        for person in self.people:
            sends += [self.send("destination", topics.DESTINATIONS, person, one)
                      for one in self._addresses(person)]  # fmt: skip
            if self.draw.random() < 0.6:
                sends.append(self.choose(person))
        await asyncio.gather(*sends)

    def _addresses(self, person: str) -> list[dict[str, Any]]:
        draw, number = self.draw, int(person.rpartition("-")[2])
        known = {
            "apns": f"{draw.getrandbits(256):064x}",
            "email": f"{person}@example.test",
            "sms": f"+1202555{100 + number % 100:04d}",
            "webhook": f"{self._webhook_url}/{person}",
        }
        kinds = [kind for kind in known if draw.random() < 0.7] or ["email"]
        at_ms = now_ms() - 1_000
        return [
            {"recipient_id": person, "destination_id": f"{person}-{kind}", "kind": kind,
             "address": known[kind], "registered_at_ms": at_ms, "attributes": {},
             "removed": False, "at_ms": at_ms, "reason": ""}
            for kind in kinds
            if kind != "sms" or number < 100  # an address is one person's only
        ]  # fmt: skip

    async def register(self, person: str, kind: str) -> None:
        """A device or inbox of somebody who is not one of ``people``."""
        address = {"apns": f"{self.draw.getrandbits(256):064x}", "email": f"{person}@example.test"}
        at_ms = now_ms() - 1_000
        await self.send("destination", topics.DESTINATIONS, person, {
            "recipient_id": person, "destination_id": f"{person}-{kind}", "kind": kind,
            "address": address[kind], "registered_at_ms": at_ms, "attributes": {},
            "removed": False, "at_ms": at_ms, "reason": "",
        })  # fmt: skip

    async def choose(self, person: str, **chosen: Any) -> None:
        """Somebody's choices, drawn unless said."""
        draw = self.draw
        if not chosen:
            chosen["categories"] = {draw.choice(CATEGORIES): False} if draw.random() < 0.5 else {}
            chosen["channels"] = (
                {draw.choice(("push", "email")): False} if draw.random() < 0.2 else {}
            )
            chosen["default"] = False if draw.random() < 0.1 else None
            if draw.random() < 0.15:
                night = {"start_minute": 0, "end_minute": 1_440, "weekdays": EVERY_DAY}
                chosen["quiet_hours"] = [night]
        fields = {
            "recipient_id": person, "default": None, "categories": {}, "channels": {},
            "cells": {}, "zone": "UTC", "locale": "en", "quiet_hours": [], "snooze_until_ms": 0,
            "muted": [], "digests": {}, "channel_order": {}, "updated_at_ms": now_ms(), **chosen,
        }  # fmt: skip
        await self.send("preference", topics.PREFERENCES, person, fields)

    # -- events

    def event(self, person: str | None = None, category: str | None = None) -> dict[str, Any]:
        """The next event, not sent."""
        draw = self.draw
        self.events_sent += 1
        return {
            "event_id": f"event-{self.events_sent}",
            "recipient_id": person or self._somebody(),
            "category": category or draw.choice(CATEGORIES),
            "created_at_ms": now_ms(),
            "actor_id": f"actor-{draw.randint(0, 5)}",
            "data": {"sender": "Ann", "text": "hello"},
        }

    def _somebody(self) -> str:
        hot = self.hot_share and self.draw.random() < self.hot_share
        return self.hot if hot else self.draw.choice(self.people)

    async def send_event(self, fields: dict[str, Any]) -> None:
        """An event to its category's topic."""
        topic = EVENT_TOPICS.get(fields["category"], topics.EVENTS_NORMAL)
        self.on_event(fields)
        await self.send("event", topic, fields["recipient_id"], fields)

    async def events(self, count: int) -> None:
        """So many, as fast as they go."""
        await asyncio.gather(*(self.send_event(self.event()) for _ in range(count)))

    async def steady(self, stop: asyncio.Event, per_second: int = 40) -> None:
        """Events at a rate, and now and then somebody who changes their mind, until told."""
        tasks: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            began = time.monotonic()
            for _ in range(max(1, per_second // 10)):
                tasks.add(asyncio.create_task(self.send_event(self.event())))
            if self.draw.random() < 0.2:
                tasks.add(asyncio.create_task(self.choose(self.draw.choice(self.people))))
            tasks = {task for task in tasks if not task.done()}
            left = 0.1 - (time.monotonic() - began)
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await stop.wait()
            except TimeoutError:
                continue
        await asyncio.gather(*tasks)
