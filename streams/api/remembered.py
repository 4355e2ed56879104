"""What this process accepted lately: ids with their payloads' hashes, and answers by key.

Three questions: was this event id accepted before, and with this payload? Is it being written
right now with another? What was answered to this Idempotency-Key? It is memory, not truth: it
answers at once what the decide step would answer later (``duplicate``, ``conflict``), and what it
forgets the decide step still knows.

Invariants: bounded in number and in age, whole generations go at once; an event is remembered as
accepted only when Kafka has acknowledged it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import msgspec

Value = TypeVar("Value")
Said = Literal["new", "accepted", "conflict"]


class Generations(Generic[Value]):
    """A map that forgets the older half of itself, by age or when it is full."""

    def __init__(self, count_max: int, age_s_max: float, clock: Callable[[], float]) -> None:
        self._half = max(1, count_max // 2)
        self._half_age_s = age_s_max / 2
        self._clock = clock
        self._new: dict[bytes, Value] = {}
        self._old: dict[bytes, Value] = {}
        self._began = clock()

    def get(self, key: bytes) -> Value | None:
        """What was put, if it is still known."""
        self._turn()
        found = self._new.get(key)
        return found if found is not None else self._old.get(key)

    def put(self, key: bytes, value: Value) -> None:
        """Remembers."""
        self._turn()
        self._new[key] = value

    def drop(self, key: bytes) -> None:
        """Forgets one."""
        self._new.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def _turn(self) -> None:
        now = self._clock()
        if len(self._new) >= self._half or now - self._began >= self._half_age_s:
            stale = now - self._began >= 2 * self._half_age_s
            self._old = {} if stale else self._new
            self._new = {}
            self._began = now


class Events:
    """Event ids that were accepted, and those on their way."""

    def __init__(
        self, count_max: int, age_ms_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._accepted: Generations[bytes] = Generations(count_max, age_ms_max / 1000, clock)
        self._under_way: dict[bytes, list[bytes]] = {}

    def ask(self, id_hash: bytes, content: bytes) -> Said:
        """What is known of an id with this payload."""
        known = self._accepted.get(id_hash)
        if known is not None:
            return "accepted" if known == content else "conflict"
        others = self._under_way.get(id_hash)
        return "conflict" if others and content not in others else "new"

    def begin(self, id_hash: bytes, content: bytes) -> None:
        """It is being written."""
        self._under_way.setdefault(id_hash, []).append(content)

    def end(self, id_hash: bytes, content: bytes, is_accepted: bool) -> None:
        """It was written, or not."""
        contents = self._under_way.get(id_hash, [])
        if content in contents:
            contents.remove(content)
        if not contents:
            self._under_way.pop(id_hash, None)
        if is_accepted:
            self._accepted.put(id_hash, content)


class Given(msgspec.Struct):
    """What an Idempotency-Key was used for. ``body`` is ``None`` while it is under way."""

    request_hash: bytes
    status: int = 0
    body: bytes | None = None


class Answers:
    """Answers by Idempotency-Key."""

    def __init__(
        self, count_max: int, age_ms_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._given: Generations[Given] = Generations(count_max, age_ms_max / 1000, clock)

    def begin(self, key: bytes, request_hash: bytes) -> Given | None:
        """What was given before; ``None`` when this is the first, which is now under way."""
        known = self._given.get(key)
        if known is None:
            self._given.put(key, Given(request_hash))
        return known

    def end(self, key: bytes, request_hash: bytes, status: int, body: bytes) -> None:
        """Keeps the answer, unless it asked to try again."""
        if status in (202, 207, 409, 422):
            self._given.put(key, Given(request_hash, status, body))
        else:
            self._given.drop(key)
