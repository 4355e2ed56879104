"""The seam between the engine and what runs on it: plain data and three protocols.

The engine owns partitions, transactions, restore and timers and knows nothing of notifications;
a ``PartitionLogic`` knows notifications and nothing of Kafka. Everything about a partition goes
through one task, so no logic needs a lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec


class Record(Protocol):
    """What a consumed record offers; aiokafka's ``ConsumerRecord`` does, too."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Output(msgspec.Struct, gc=False):
    """One record to produce in the batch's transaction."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    """``None``: the partition of the batch."""
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Due(msgspec.Struct, gc=False):
    """The due time of one owner (a recipient's key) moved."""

    owner: bytes
    old_ms: int | None
    new_ms: int | None


class Result(msgspec.Struct):
    """What a logic wants done, atomically: all of it or none."""

    outputs: list[Output] = []
    changes: dict[bytes, bytes | None] = {}
    """State key -> new value; ``None`` deletes."""
    due: list[Due] = []
    policy_version: str = ""
    """Version of what decided it, for the fence record: by the time that this is written, the
    logic may have been given another."""


class Batch(msgspec.Struct):
    """Records of one partition in the order of taking: control first, bulk last."""

    partition: int
    now_ms: int
    """The partition's clock, never going back (wall mode). In stream mode it is the largest
    record time seen before this batch; the logic moves it on record by record."""
    records: list[Any]
    stream_time: bool = False
    read_again: dict[str, int] = {}
    """Topic -> offset below which its records are from before this state began: it was lost and is
    rebuilt, or there was none. Most of them were decided before, from a state that nobody has."""


class StateView(Protocol):
    """Reads of the committed state of one partition (plus what this batch has not changed)."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``; ``None`` where there is none."""

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> Iterable[tuple[bytes, bytes]]:
        """Pairs whose key starts with ``prefix``, in order, ``after`` exclusive."""


class PartitionLogic(Protocol):
    """The computation of one role over one partition. Deterministic in its arguments."""

    async def prepare(self, records: Sequence[Any]) -> None:
        """Whatever decoding needs from outside (an unknown writer's schema). May raise
        ``TemporarilyUnavailable``: the batch is held and asked again."""

    def process(self, batch: Batch, view: StateView) -> Result:
        """Decides a batch. Must not raise for any record: a bad one is a dead letter in the
        result. An exception is a bug and ends the process."""

    def wake(
        self,
        partition: int,
        due: Sequence[tuple[int, bytes]],
        now_ms: int,
        view: StateView,
        stream_time: bool,
    ) -> Result:
        """Releases owners that are due: (due_ms, owner) in order. A stale entry must be answered
        with a ``Due`` that removes it. In stream mode each owner is woken at its own due time,
        again and again until nothing is due by ``now_ms``."""

    def due_of(self, key: bytes, value: bytes | None) -> Due | None:
        """Due entry of a restored state record (``old_ms`` unknown), if its key holds one."""

    def clock_after(self, batch: Batch) -> int:
        """Stream mode: the partition's clock once the batch is decided."""


class TemporarilyUnavailable(Exception):  # noqa: N818 (a state, named for what happened)
    """Something needed is away (schema registry): hold, do not dead-letter, try again."""
