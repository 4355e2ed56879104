"""A simulated Kafka: what it promises, and everything unpleasant that it is allowed to do.

Partitioned logs with append time, idempotent and transactional producers, fencing, markers that
reach each partition at a moment of their own after the commit was answered, a last stable offset,
groups with generations and positions, and outages during which nothing is answered.

Promised: what was acknowledged is there and stays in its order; of a transaction everything or
nothing is seen by ``read_committed``; a producer that was fenced writes nothing more.
Not promised: how long anything takes, and that a request that failed had no effect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams import topics
from streams.simulation.loop import SimTime


class Stored(msgspec.Struct, gc=False):
    """One record as a consumer sees it (``engine.api.Record``)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    appended_at_ms: int = 0
    """True time of the append, whatever ``timestamp`` is."""


class Transaction:
    """One transaction of one transactional producer."""

    __slots__ = ("number", "owner", "partitions", "state", "unmarked")

    def __init__(self, number: int, owner: ProducerState) -> None:
        self.number = number
        self.owner = owner
        self.state = "open"
        """``open``, ``committed`` or ``aborted``."""
        self.partitions: dict[tuple[str, int], int] = {}
        """(topic, partition) -> offset of its first record there."""
        self.unmarked: set[tuple[str, int]] = set()


class Partition:
    """One partition's log."""

    def __init__(self, topic: str, number: int, append_time: bool) -> None:
        self.topic = topic
        self.number = number
        self.append_time = append_time
        self.entries: list[tuple[Stored | None, Transaction | None]] = []
        """By offset: a record, or ``None`` for a marker; with its transaction."""
        self.open: dict[Transaction, int] = {}
        """Transactions without a marker here -> offset of their first record."""
        self.start = 0
        """First offset that was not deleted."""

    @property
    def end(self) -> int:
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        return min(self.open.values(), default=len(self.entries))

    def append(self, record: Stored, transaction: Transaction | None) -> int:
        record.offset = len(self.entries)
        self.entries.append((record, transaction))
        if transaction is not None and transaction not in self.open:
            self.open[transaction] = record.offset
        return record.offset

    def mark(self, transaction: Transaction) -> None:
        """The end of a transaction reaches this partition.

        It is the end of everything that its owner has open here: what never heard of its own end
        takes this one.
        """
        for unheard in [one for one in self.open if one.owner is transaction.owner]:
            first = self.open.pop(unheard)
            for at in range(first, len(self.entries)):
                record, its = self.entries[at]
                if its is unheard:
                    self.entries[at] = record, transaction
        self.entries.append((None, transaction))

    def read(self, position: int, records_max: int) -> tuple[list[Stored], int]:
        """Committed records from ``position`` on, and the position after what was looked at."""
        records: list[Stored] = []
        at, end = max(position, self.start), self.stable_end
        while at < end and len(records) < records_max:
            record, transaction = self.entries[at]
            at += 1
            if record is not None and (transaction is None or transaction.state == "committed"):
                records.append(record)
        if records and len(records) >= records_max:
            return records, at
        return records, max(at, position)

    def committed(self) -> list[Stored]:
        """Everything that ``read_committed`` ever shows."""
        return self.read(0, 1 << 60)[0]


class ProducerState:
    """What the coordinator knows of a transactional id."""

    def __init__(self) -> None:
        self.epoch = -1
        self.transaction: Transaction | None = None
        """Open, or ended and not marked everywhere yet."""
        self.opened_at_ms = 0


class Log:
    """All topics of the simulated cluster."""

    def __init__(self, time: SimTime, partitions: int) -> None:
        self.time = time
        self.partitions = partitions
        self.topics: dict[str, list[Partition]] = {}
        for spec in topics.SPECS:
            count = 1 if spec.partitions == "one" else partitions
            self.topics[spec.name] = [
                Partition(spec.name, number, spec.append_time) for number in range(count)
            ]
        self.producers: dict[str, ProducerState] = {}
        self.away_until_us = 0
        """No request is answered before this."""
        self.listeners: list[Any] = []
        """Called with (topic, partition) whenever something can be read that could not before."""
        self._numbers = 0

    def __getitem__(self, place: tuple[str, int]) -> Partition:
        return self.topics[place[0]][place[1]]

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp_ms: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        transaction: Transaction | None = None,
    ) -> int:
        """One record; its offset."""
        place = self[topic, partition]
        now_ms = self.time.true_ms()
        stamp = now_ms if place.append_time or timestamp_ms is None else timestamp_ms
        record = Stored(topic, partition, 0, stamp, key, value, headers, now_ms)
        offset = place.append(record, transaction)
        if transaction is None:
            self.tell(topic, partition)
        else:
            transaction.partitions.setdefault((topic, partition), offset)
        return offset

    def tell(self, topic: str, partition: int) -> None:
        """Readers may look again."""
        for listener in tuple(self.listeners):
            listener(topic, partition)

    # -- transactions

    def fence(self, transactional_id: str) -> int:
        """A new producer with this id: what an older one left open is aborted. Its epoch.

        The caller waits until nothing of an earlier transaction is unmarked.
        """
        state = self.producers.setdefault(transactional_id, ProducerState())
        state.epoch += 1
        if state.transaction is not None and state.transaction.state == "open":
            self.end(state, "aborted")
        return state.epoch

    def begin(self, state: ProducerState) -> Transaction:
        """The next transaction of a producer."""
        self._numbers += 1
        state.transaction = Transaction(self._numbers, state)
        state.opened_at_ms = self.time.true_ms()
        return state.transaction

    def end(self, state: ProducerState, outcome: str) -> None:
        """Decides a transaction. Its markers are still to reach the partitions."""
        transaction = state.transaction
        assert transaction is not None and transaction.state == "open"  # noqa: PT018
        transaction.state = outcome
        transaction.unmarked = set(transaction.partitions)

    def mark(self, transaction: Transaction, place: tuple[str, int]) -> None:
        """The marker reaches a partition."""
        transaction.unmarked.discard(place)
        self[place].mark(transaction)
        self.tell(*place)
