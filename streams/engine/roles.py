"""The seam between the engine and the roles: what a role declares, runs, and is given.

A role (decide, deliver, ledger) is one consumer group. Faust decides which worker owns which
partition number; a partition number means that partition of *every* topic of the role. For each
owned number the engine makes one ``PartitionRunner`` and hands it a ``PartitionContext``: its own
reader, positions and commits. Runners of one worker share an event loop and nothing else.

Life of a runner, in this order and never two at once for one partition in one process::

    runner_factory(partition, context) -> start() -> run() -> stop(graceful)

* ``start`` fences the previous owner, restores, seeks. ``run`` is started when it returns.
* ``run`` returns only when ``stop`` was called, or when it is cancelled. An exception in it (or in
  ``start``) is logged and ends the process with a non-zero status: nothing is ever retried from a
  state that is not understood.
* ``stop`` runs while ``run`` is still running. On a rebalance the engine holds the rebalance until
  ``stop`` returns, but no longer than ``EngineSettings.revoke_ms_max``; after that ``run`` is
  cancelled and the partition given up.

Invariant: what a runner commits it has made durable before. Committed positions are for lag
displays and, in roles without a fence record of their own, for where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from streams.engine.api import Record
from streams.engine.settings import EngineSettings
from streams.tables import TableSpec
from streams.topics import TopicSpec


class Fenced(Exception):  # noqa: N818 (a state, named for what happened)
    """Another worker owns this partition now: stop at once, write nothing more.

    Raised by ``commit`` (the group refused a stale generation) and by a fenced producer. A runner
    lets it pass; the engine ends the process unless the partition is being revoked anyway.
    """


class Lane(msgspec.Struct, frozen=True):
    """Topics that are taken together, and at most how much of them at once."""

    name: str
    topics: tuple[str, ...]
    records_max: int
    """Largest batch that one ``take`` of this lane should ask for."""
    urgent: bool = False
    """Read over a connection of its own, so that a backlog elsewhere never delays it."""
    holds_timers: bool = True
    """Nothing fires ahead of what this lane has not given yet (stateful roles). False for bulk:
    a campaign's backlog of hours must not hold up everybody's escalations."""
    at_once_max: int | None = None
    """So many partitions of a worker have records of it in a batch at once; ``None``: all."""
    rest_share: float = 0.0
    """With ``at_once_max``: while urgent events come, the next batch of it begins so many times as
    long after one as that took."""
    batch_ms_max: int | None = None
    """With ``at_once_max``: while urgent events come, a batch has so few of its records that it
    takes about so long, however long each of them takes."""
    backlog_records_max: int = 0
    """With ``at_once_max``: while no urgent events come, a batch may have more of its records than
    ``records_max``, up to this, ..."""
    backlog_ms_max: int = 0
    """... as long as it takes no longer than about so: an urgent event that comes waits for it."""


class Follow(msgspec.Struct, frozen=True):
    """A small compacted topic that every worker reads whole, whatever it owns (kill switch).

    All of it, up to its end at the start, is delivered before the first runner starts; later
    records arrive as they are appended. ``on_record`` runs on the event loop and must not block;
    an exception in it ends the process.
    """

    topic: str
    on_record: Callable[[Record], None]


class Committed(msgspec.Struct, frozen=True):
    """A position in the group: the next offset to read, and free text kept beside it."""

    offset: int
    metadata: str = ""
    """At most 4,096 bytes in Kafka's default configuration."""


class WorkerService(Protocol):
    """Something that all runners of a worker share: HTTP clients, budgets, a proxy."""

    async def start(self) -> None:
        """Called once, before the first runner starts."""

    async def stop(self) -> None:
        """Called once, after the last runner has stopped."""


class PartitionContext(Protocol):
    """What one runner may use. Topics are names; the partition is always the runner's own."""

    @property
    def partition(self) -> int:
        """The partition number that this context is for."""

    @property
    def settings(self) -> EngineSettings:
        """Settings of the worker."""

    def now_ms(self) -> int:
        """Wall clock, Unix milliseconds. (Inject a fake context in tests.)"""

    async def take(self, topics: Sequence[str], records_max: int, timeout_ms: int) -> list[Record]:
        """Records that were not taken before, at most ``records_max``.

        Topics are drained in the order given: a later one is looked at only when the earlier ones
        have nothing at hand. Returns as soon as there is anything; ``[]`` after ``timeout_ms``
        (0: only what is already here). Within a topic records come in offset order, without
        gaps but for transaction markers, aborted transactions and compaction. Only committed
        records are seen (``read_committed``). One ``take`` at a time per context.
        """

    def seek(self, positions: Mapping[str, int]) -> None:
        """Next offset to take, per topic. What was fetched and not taken is forgotten.

        Where nothing is sought, reading begins at ``committed()``, or else at the log's start.
        """

    def position(self, topic: str) -> int:
        """Offset after everything taken so far (past transaction markers where that is known).

        Safe to commit once all records taken are durable.
        """

    async def end_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        """Last stable offset per topic. Calls of all partitions made together share a request."""

    async def beginning_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        """First offset that the log still has, per topic."""

    async def committed(self) -> dict[str, Committed]:
        """Positions of this partition in the group; topics never committed are missing."""

    async def commit(self, positions: Mapping[str, Committed]) -> None:
        """Commits through the group's membership. Raises ``Fenced`` when this worker's generation
        is over; may be called during ``stop`` of a revocation."""

    def client_settings(self) -> dict[str, Any]:
        """Keyword arguments for an aiokafka client of one's own: servers, security, timeouts."""

    def crash_point(self, name: str) -> None:
        """Dies here (SIGKILL) when ``FLOWSTATE_CRASH_POINT`` names ``name``; else does nothing."""

    def progress(self) -> None:
        """Tells the watchdog that work was finished. Lag without progress ends the process."""


class RunnerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a runner is, for people. A runner may have ``status()`` that returns one."""

    state: str = ""
    """In its own words; empty leaves it to the engine (``starting``, ``running``)."""
    state_bytes: int | None = None
    """Local state on disk."""
    restored: int | None = None
    """Changelog offset that the local state has reached."""
    restore_end: int | None = None
    """Changelog offset that it is on its way to."""


class PartitionRunner(Protocol):
    """One partition's work. See the module's text for the order of calls."""

    async def start(self) -> None:
        """Fence, restore, seek. Nothing has been taken yet."""

    async def run(self) -> None:
        """Works until stopped or cancelled."""

    async def stop(self, graceful: bool) -> None:
        """Stops taking, finishes (or with ``graceful=False`` abandons) what is in flight, makes
        it durable, commits, and frees everything: files closed, clients stopped. ``run`` should
        return by itself; it is cancelled after this returns. May be called when ``start`` has
        failed or not finished."""


def status_of(runner: PartitionRunner) -> RunnerStatus:
    """What a runner says of itself, if it says anything."""
    said: Callable[[], RunnerStatus] = getattr(runner, "status", RunnerStatus)
    return said()


RunnerFactory = Callable[[int, PartitionContext], PartitionRunner]


class RoleSpec(msgspec.Struct, frozen=True):
    """What the engine must know to run a role."""

    name: str
    """``decide``, ``deliver`` or ``ledger``; the group is ``<application>-<name>``."""
    lanes: tuple[Lane, ...]
    runner_factory: RunnerFactory
    table: TableSpec | None = None
    """Declared to Faust, so that it assigns actives and standbys of its changelog."""
    standby_factory: RunnerFactory | None = None
    """Makes runners that keep a warm copy of a partition owned elsewhere."""
    follows: tuple[Follow, ...] = ()
    services: tuple[WorkerService, ...] = ()
    topic_specs: tuple[TopicSpec, ...] = ()
    """Topics that are checked in full before the worker begins: those it reads and writes."""
    clock_topic: str = ""
    """Takes a record that means nothing, to learn the broker's time; empty: is not asked for."""
    on_app: Callable[[Any], None] | None = None
    """Called once with the Faust app, before it starts: add pages (``app.page``), agents."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every partitioned topic that the role reads."""
        return tuple(topic for lane in self.lanes for topic in lane.topics)
