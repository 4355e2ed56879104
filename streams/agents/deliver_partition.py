"""One partition of the deliver role: from taking a delivery to committing its answer.

It reads all kinds' topics, critical ones first, gives each kind a ``Lane``, hands answers to the
``OutcomeLog`` and has a topic's position committed (``deliver_commits``) only when everything
before it is answered durably.

After a restart ``deliver_positions`` says what the previous owner had answered, what it may have
sent without an answer (the category's policy decides about those), and what it cannot have sent.

Invariants
- Nothing is sent before a position marked "not clean" is committed, so a crash is always seen.
- Nothing is sent by a worker that has not lately confirmed that it still owns the partition: one
  that was stopped for longer than the session would send what its successor sends too.
- Retries are not made here: DECIDE makes them, with every rule checked again.
- In stream time records carry the decision's own time, and what depends on the wall (validity,
  collapsing) is left alone, so that a run over recorded data always gives the same result.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Protocol

from streams import topics
from streams.agents.deliver_commits import Commits
from streams.agents.deliver_item import Item
from streams.agents.deliver_lane import Lane
from streams.agents.deliver_log import LogClients, OutcomeLog
from streams.agents.deliver_metrics import DeliverMetrics
from streams.agents.deliver_positions import TopicPositions
from streams.agents.deliver_records import Writer
from streams.agents.deliver_takeover import take_over
from streams.agents.deliver_terms import Names
from streams.agents.kill_switches import KillSwitches
from streams.codec import Codec, DecodeError
from streams.core.model import Delivery
from streams.engine import roles
from streams.engine.api import Record
from streams.sinks.base import Answer
from streams.sinks.dispatch import Dispatcher
from streams.sinks.settings import DeliverSettings
from streams.templates.catalogue import Templates
from streams.templates.render import render
from streams.templates.rendered import Rendered, RenderFailed

SWEEP_SECONDS = 0.5

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What the runners of one worker share (``deliver.Deliverer``)."""

    settings: DeliverSettings
    codec: Codec
    names: Names
    kill_switches: KillSwitches
    templates: Templates
    dispatcher: Dispatcher
    clients: LogClients
    metrics: DeliverMetrics

    def own(self, partition: int, owned: bool) -> None:
        """Shares of quotas follow what this worker owns."""


class DeliverRunner:
    """One partition. Implements ``PartitionRunner`` and the lanes' ``LaneHost``."""

    def __init__(self, partition: int, context: roles.PartitionContext, worker: Worker) -> None:
        self._partition = partition
        self._context = context
        self._worker = worker
        self._settings = worker.settings
        self._wall = worker.settings.clock == "wall"
        self._writer = Writer(worker.codec, worker.names, partition, stream=not self._wall)
        names = worker.names.deliveries
        self._critical = [names(kind, True) for kind in topics.KINDS]
        self._topics = self._critical + [names(kind, False) for kind in topics.KINDS]
        self._kind_of = {names(k, c): k for k in topics.KINDS for c in (True, False)}
        self._lanes = {
            kind: Lane(self, worker.dispatcher, self._wall, worker.settings.collapse_waiting)
            for kind in topics.KINDS
        }
        self._positions: dict[str, TopicPositions] = {}
        self._commits = Commits(context, worker.settings, self._positions)
        self._stopping = False
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._log: OutcomeLog | None = None

    # ------------------------------------------------------------------------ engine's contract

    async def start(self) -> None:
        """Finds out what the previous owner did, and says that this one has begun."""
        self._failed = asyncio.get_running_loop().create_future()
        worker, context = self._worker, self._context
        self._log, positions = await take_over(
            context, worker.clients, worker.codec, worker.names, worker.settings, self._topics
        )
        self._positions.update(positions)
        context.seek({topic: p.next_offset for topic, p in positions.items()})
        worker.own(self._partition, True)
        await self._commits.commit(self._log.end, starting=True)

    async def run(self) -> None:
        """Works until stopped."""
        assert self._log is not None, "started before it is run"
        assert self._failed is not None
        self._tasks = [
            asyncio.create_task(self._log.run(self._on_written)),
            asyncio.create_task(self._take()),
            asyncio.create_task(self._commits.run(self._log, self._pump)),
            asyncio.create_task(self._sweep()),
        ]
        try:
            # Taking ends by itself when a stop begins; the others go on until the stop has ended.
            waiting = {*self._tasks, self._failed}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()

    async def stop(self, graceful: bool) -> None:
        """Begins nothing more; with ``graceful`` waits for what is under way and commits."""
        self._stopping = True
        self._worker.own(self._partition, False)
        clean = False
        if graceful and self._log is not None and self._tasks:
            clean = await self._finish_what_is_under_way()
        for lane in self._lanes.values():
            lane.abandon()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if graceful and self._positions and self._log is not None:
            await self._commits.commit(self._log.end, clean=clean)

    # -------------------------------------------------------------------------- lanes' host

    def now_ms(self) -> int:
        """Wall clock."""
        return self._context.now_ms()

    def leased(self) -> bool:
        """Whether ownership was confirmed within the lease."""
        return self._commits.age_s() < self._settings.lease_ms / 1000

    def may_begin(self, item: Item) -> bool:
        """Named by a committed mark, inside the window, within the lease, and not stopping."""
        if self._stopping:
            return False
        positions = self._positions[item.topic]
        leased = self.leased()
        if leased and positions.may_send(item.entry):
            return True
        if not leased or positions.is_inside(item.entry):
            self._commits.wanted.set()
        return False

    def begins(self, item: Item) -> None:
        """What a mark must cover from now on."""
        self._positions[item.topic].begins(item.entry)

    def killed_by(self, delivery: Delivery) -> str | None:
        """The kill switch that stops it."""
        return self._worker.kill_switches.stops(delivery)

    def render(self, delivery: Delivery) -> Rendered | RenderFailed:
        """Its words."""
        return render(delivery, self._worker.templates)

    def finish(self, item: Item, answer: Answer) -> None:
        """Hands an answer to the log."""
        assert self._log is not None
        answered_at_ms = self.now_ms()
        positions, entry = self._positions[item.topic], item.entry
        self._worker.metrics.answered(item.delivery, answer, answered_at_ms)
        done = partial(positions.answer, entry)
        self._log.put(self._writer.finished(item, answer, answered_at_ms, done))

    def fail(self, error: BaseException) -> None:
        """Ends ``run`` with ``error``."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    # ------------------------------------------------------------------------------- inside

    async def _take(self) -> None:
        """Takes from every topic that has room, critical ones first."""
        settings = self._settings
        turn = 0
        while not self._is_stopping():
            turn += 1
            open_topics = [t for t in _rotated(self._topics, turn) if self._has_room(t)]
            if not open_topics:
                self._room.clear()
                await self._room.wait()
                continue
            records = await self._context.take(
                open_topics, settings.take_records_max, settings.take_ms_max
            )
            # Also while stopping: what was taken and is not answered is what the position is for.
            for record in records:
                self._accept(record)
            self._pump()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _has_room(self, topic: str) -> bool:
        return self._positions[topic].outstanding < self._settings.waiting_max

    def _accept(self, record: Record) -> None:
        """One record into its lane, or straight to its end."""
        assert self._log is not None
        topic = record.topic
        positions = self._positions[topic]
        try:
            delivery = self._worker.codec.decode_delivery(record.value)
        except DecodeError as error:
            entry, _ = positions.take(record.offset, "")
            done = partial(positions.leave, entry)
            self._log.put(self._writer.dead(record, error, done))
            return
        entry, standing = positions.take(record.offset, delivery.delivery_id)
        if standing != "answered":
            item = Item(delivery, topic, entry, critical=topic in self._critical)
            self._lanes[self._kind_of[topic]].add(item)

    async def _on_written(self) -> None:
        """Answers became durable: windows have moved, there may be room."""
        self._context.crash_point("after_outcomes")
        self._context.progress()
        self._room.set()
        self._pump()

    def _pump(self) -> None:
        """Begins whatever may begin now."""
        for lane in self._lanes.values():
            lane.pump()

    async def _sweep(self) -> None:
        """Lets time pass for what cannot be sent: expiry, kill switches."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            lanes = self._lanes.values()
            for lane in lanes:
                lane.sweep()
                lane.pump()
            if any(lane.waiting for lane in lanes) and all(lane.is_excused for lane in lanes):
                # A provider that is away for hours is no reason to end this process every minute.
                self._context.progress()

    async def _finish_what_is_under_way(self) -> bool:
        """Waits for answers and for the log; True when nothing is left in doubt."""
        assert self._log is not None
        try:
            async with asyncio.timeout(self._settings.stop_ms_max / 1000):
                await asyncio.gather(*(lane.drained() for lane in self._lanes.values()))
                await self._log.settled.wait()
        except TimeoutError:
            log.warning("partition %d: stopped with sends under way", self._partition)
            return False
        return True


def _rotated(every: list[str], turn: int) -> list[str]:
    """Critical topics first, but no kind always before the others of its lane."""
    half = len(every) // 2
    cut = turn % half
    critical, normal = every[:half], every[half:]
    return critical[cut:] + critical[:cut] + normal[cut:] + normal[:cut]
