"""Logs in memory, for tests of what decides over records and not over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from streams.engine.settings import EngineSettings


class FakeRecord(msgspec.Struct, frozen=True):
    """A record of partition 0."""

    topic: str
    offset: int
    timestamp: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class FakeLogs:
    """Topics of one partition, and as much of ``Context`` as the orders of taking use.

    ``hidden`` records exist in the log (they count for its end) but were not fetched yet.
    """

    def __init__(self, **changes: Any) -> None:
        self.settings = EngineSettings(bootstrap="nowhere", **changes)
        self.logs: dict[str, list[FakeRecord]] = {}
        self.positions: dict[str, int] = {}
        self.hidden: dict[str, int] = {}
        self.asked_for_ends = 0
        self.on_ends: Any = None
        self.on_wait: Any = None

    def append(self, topic: str, timestamp: int = 0, hidden: bool = False) -> FakeRecord:
        log = self.logs.setdefault(topic, [])
        record = FakeRecord(topic, len(log), timestamp)
        log.append(record)
        if hidden:
            self.hidden[topic] = self.hidden.get(topic, 0) + 1
        return record

    def fetch(self) -> None:
        """Everything hidden arrives."""
        self.hidden.clear()

    # -- Context

    def drain(self, topics: Sequence[str], records_max: int) -> list[FakeRecord]:
        taken: list[FakeRecord] = []
        for topic in topics:
            log, position = self.logs.get(topic, []), self.position(topic)
            visible = len(log) - self.hidden.get(topic, 0)
            more = log[position : min(visible, position + records_max - len(taken))]
            self.positions[topic] = position + len(more)
            taken += more
        return taken

    def position(self, topic: str) -> int:
        return self.positions.get(topic, 0)

    def at_hand(self, topics: Sequence[str]) -> bool:
        return any(
            self.position(topic) < len(self.logs.get(topic, [])) - self.hidden.get(topic, 0)
            for topic in topics
        )

    async def end_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        self.asked_for_ends += 1
        if self.on_ends is not None:
            self.on_ends()
        return {topic: len(self.logs.get(topic, [])) for topic in topics}

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        await asyncio.sleep(0)
        if self.on_wait is not None:
            self.on_wait()
        return True
