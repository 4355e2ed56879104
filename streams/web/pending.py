"""Changes of preferences that are acknowledged and not yet in the state.

The log has them, the state will: until then a reader must be shown them, and the next writer's
version must be compared with them. An entry is of use as long as the state still is one of those
that it was written over; whatever else the state is, is later.

Invariants: bounded in number and age; at the bound the oldest entry goes (its reader then sees the
state, which is at worst a moment old).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from streams.core.model import Preferences
from streams.web.preference_rules import etag

WRITTEN_OVER_MAX = 16
"""Versions that one entry remembers to have replaced."""
AGE_S_MAX = 60.0
"""A change that is not applied by then was refused by the decide step, or waits for it."""


class PendingChanges:
    """By partition and recipient."""

    def __init__(self, count_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count_max = count_max
        self._clock = clock
        self._entries: dict[tuple[int, str], tuple[float, tuple[str, ...], Preferences]] = {}

    def add(self, partition: int, recipient_id: str, stored: str, new: Preferences) -> None:
        """``new`` is acknowledged while the state's version is still ``stored``."""
        key = partition, recipient_id
        over: tuple[str, ...] = (stored,)
        before = self._entries.pop(key, None)
        if before is not None and stored in before[1]:
            over = (*before[1], etag(before[2]))[-WRITTEN_OVER_MAX:]
        if len(self._entries) >= self._count_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = self._clock(), over, new

    def get(self, partition: int, recipient_id: str, stored: str) -> Preferences | None:
        """What is acknowledged beyond the state; ``None`` when the state has it all."""
        key = partition, recipient_id
        entry = self._entries.get(key)
        if entry is None:
            return None
        added_at, over, new = entry
        is_ahead = stored in over and stored != etag(new)
        if is_ahead and self._clock() - added_at < AGE_S_MAX:
            return new
        del self._entries[key]
        return None

    def forget(self, partition: int) -> None:
        """The partition goes elsewhere."""
        for key in [key for key in self._entries if key[0] == partition]:
            del self._entries[key]
