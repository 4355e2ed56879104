"""What the demo sends, in order: people first, then the trace in slices, with garbage among it.

It runs in a thread beside the event loop that shows progress, and tells how far it is through
plain counters. After each slice a tick says on every partition how far time has come, so that
what is decided does not depend on which topic was read first.

Invariants: nothing of the trace is sent before every preference and destination is acknowledged;
a slice is acknowledged before its tick is sent; ``stop`` ends it at the next slice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from streams import topics
from streams.core.policy import Category
from streams.local.garbage import Garbage
from streams.local.population import Member
from streams.local.stock_producer import StockProducer
from streams.local.trace import TraceEvent

SLICE_EVENTS = 2_000
"""Events between two ticks, and between two changes of compression."""


class DemoProducer:
    """Sends the demo's records. Counters may be read from any thread."""

    def __init__(
        self, producer: StockProducer, categories: Mapping[str, Category], partitions: int
    ) -> None:
        self._producer = producer
        self._lanes = {name: lane_of(category) for name, category in categories.items()}
        self._partitions = range(partitions)
        self._stop = threading.Event()
        self.events_sent = 0
        self.compressions: list[str] = []

    def send_people(self, members: Sequence[Member], at_ms: int) -> int:
        """Preferences and destinations of everyone; how many records. All are acknowledged."""
        sent = 0
        for member in members:
            key = member.recipient_id
            self._producer.send(topics.PREFERENCES, key, member.preference, at_ms)
            for destination in member.destinations:
                self._producer.send(topics.DESTINATIONS, key, destination, at_ms)
            sent += 1 + len(member.destinations)
        self._producer.flush()
        return sent

    def send_events(
        self, events: Sequence[TraceEvent], rubbish: Sequence[Garbage], rubbish_after: int
    ) -> None:
        """The trace, slice by slice; ``rubbish`` goes after the slice of that number."""
        for number, start in enumerate(range(0, len(events), SLICE_EVENTS)):
            if self._stop.is_set():
                return
            self.compressions.append(self._producer.use(number))
            part = events[start : start + SLICE_EVENTS]
            for event in part:
                lane = self._lanes[event.category]
                self._producer.send(lane, event.recipient_id, event.value, event.sent_at_ms)
            at_ms = part[-1].sent_at_ms
            if number == rubbish_after:
                for bad in rubbish:
                    self._producer.send_bytes(bad.topic, bad.key, bad.value, at_ms)
            self._producer.tick(topics.TICKS, self._partitions, at_ms)
            self.events_sent += len(part)

    def move_on(self, at_ms: int) -> None:
        """Nothing more happens before ``at_ms``: timers may fire up to then."""
        self._producer.tick(topics.TICKS, self._partitions, at_ms)

    def stop(self) -> None:
        """Ends ``send_events`` after the slice that it is at."""
        self._stop.set()

    def close(self) -> None:
        """Disconnects; nothing can be sent after."""
        self._producer.close()


def lane_of(category: Category) -> str:
    """Topic on which events of a category belong: by the priority that the catalogue gives it."""
    return {
        "critical": topics.EVENTS_CRITICAL,
        "normal": topics.EVENTS_NORMAL,
        "bulk": topics.EVENTS_BULK,
    }[category.priority]
