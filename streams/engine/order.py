"""Which records make the next batch of a partition, and what it thereby covers.

Wall mode (``WallOrder``). The control lane comes first: after a batch of events was fetched, the
ends of the control topics are looked up and everything before them is taken, so that an opt-out
that was acknowledged before an event was sent is always decided before that event. Then every
event lane in order, each up to its own cap, in the same batch; a lane with ``at_once_max`` only
while this partition has a place. So critical waits for its own partition's batch and a few others,
not for a round of all partitions; and nobody is starved. While urgent events come, a lane with a
``rest_share`` leaves them time between its batches, and one with ``batch_ms_max`` makes them short.
While none come, one with ``backlog_records_max`` makes them as long as an urgent event may wait.
Behind a full batch urgent events go alone, and what waits comes in the next: a thousand records
beside them would take longer than the transaction of their own that this costs.

Invariants: what is returned as covered is exactly the records returned, with the transaction
markers behind them; records that were fetched and not returned yet are not covered by anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from streams.engine.api import Record
from streams.engine.context import Context
from streams.engine.roles import Lane

WAIT_S = 0.1
"""How long to wait for records that are known to be there before asking whether to stop."""
URGENT_S = 1.0
"""So long after an urgent event more of them are expected; no turn rests for longer."""
RECORDS_MIN = 25
"""So many of a lane are taken however long a batch takes: each is a transaction."""


class Taken(msgspec.Struct):
    """One batch: records in the order of taking, and the positions after them."""

    records: list[Record] = []
    positions: dict[str, int] = {}
    is_full: bool = False
    """A lane gave as much as it may: there is a backlog."""

    def extend(self, other: Taken) -> None:
        """Adds what was taken after this."""
        self.records += other.records
        self.positions.update(other.positions)
        self.is_full = self.is_full or other.is_full


class Turns:
    """Lets a few partitions at a time into a lane with ``at_once_max``, first come first served."""

    def __init__(self, lane: Lane) -> None:
        assert lane.at_once_max is not None, f"the lane {lane.name} needs no turns"
        self._lane = lane
        self._slots = asyncio.Semaphore(lane.at_once_max)
        self._went = 0, 1.0
        """Records of the lane in the last batch, and how many milliseconds that took."""
        self._urgent_at = -URGENT_S

    async def wait(self) -> None:
        """Returns when it is this caller's turn."""
        await self._slots.acquire()

    def note_urgent(self) -> None:
        """Urgent events were taken, by whichever partition."""
        self._urgent_at = time.monotonic()

    @property
    def is_urgent(self) -> bool:
        """Whether urgent events come."""
        return time.monotonic() - self._urgent_at < URGENT_S

    def records_max(self, before: int = 0) -> int:
        """What may be of the lane in the next batch, with so many records ``before`` them.

        While urgent events come, as many as fit into ``batch_ms_max``, but no more than are always
        allowed. While none come, as many as are always allowed, but more if they fit into
        ``backlog_ms_max`` together with those before them.
        """
        lane = self._lane
        if not self.is_urgent:
            fit = self._fit(lane.backlog_ms_max) - before
            return max(lane.records_max, min(lane.backlog_records_max, fit))
        if lane.batch_ms_max is None:
            return lane.records_max
        return min(lane.records_max, max(RECORDS_MIN, self._fit(lane.batch_ms_max)))

    def _fit(self, ms_max: int) -> int:
        records, took_ms = self._went
        return int(records * ms_max / took_ms)

    def done(self, records: int = 0, took_s: float = 0.0) -> None:
        """Gives the turn to the next, after a batch with so many of the lane that took so long."""
        if took_s > 0:
            self._went = records, took_s * 1000
        rest_s = min(took_s * self._lane.rest_share, URGENT_S)
        if rest_s > 0 and self.is_urgent:
            asyncio.get_running_loop().call_later(rest_s, self._slots.release)
        else:
            self._slots.release()


class Place:
    """One partition's place in the queue for such a lane."""

    def __init__(self, context: Context, lane: Lane, turns: Turns) -> None:
        self._context = context
        self._lane = lane
        self._turns = turns
        self.waiting: asyncio.Task[None] | None = None
        """Done when it is this partition's turn; ``None`` when it has not asked."""
        self._taken = 0
        """Records of the lane in the batch that was returned last."""

    def take(self, before: int) -> Taken:
        """What is at hand, if it is this partition's turn; with nothing at hand the turn goes.

        ``before``: so many records are in the batch already.
        """
        if self.waiting is None or not self.waiting.done():
            return Taken()
        taken = take_lane(self._context, self._lane, self._turns.records_max(before))
        self._taken = len(taken.records)
        if not self._taken:
            self.give_up()
        return taken

    def queue(self) -> None:
        """Asks for a turn if there is something to take."""
        if self.waiting is None and self._context.at_hand(self._lane.topics):
            self.waiting = asyncio.create_task(self._turns.wait(), name="turn")

    def give_up(self, took_s: float = 0.0) -> None:
        """Gives the turn to the next, if this partition has it, after a batch that took so long."""
        if self.waiting is not None and self.waiting.done():
            self.waiting = None
            records, self._taken = self._taken, 0
            self._turns.done(records, took_s)

    def batch_done(self, took_s: float) -> None:
        """Gives a turn up that was used; one that came since then is for the next batch."""
        if self._taken:
            self.give_up(took_s)

    async def leave(self) -> None:
        """Gives the turn up, or the place in the queue."""
        self.give_up()
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def take_lane(context: Context, lane: Lane, records_max: int | None = None) -> Taken:
    """What is at hand of a lane, topic by topic, with the positions after it."""
    taken = Taken()
    cap = lane.records_max if records_max is None else records_max
    for topic in lane.topics:
        if len(taken.records) >= cap:
            break
        records = context.drain((topic,), cap - len(taken.records))
        if records:
            taken.records += records
            taken.positions[topic] = context.position(topic)
    taken.is_full = len(taken.records) >= cap
    return taken


class Control:
    """Drains the control lane to a snapshot of its end."""

    def __init__(self, context: Context, lane: Lane) -> None:
        self._context = context
        self._lane = lane
        self.topics = lane.topics
        self._rank_of = {topic: rank for rank, topic in enumerate(lane.topics)}

    async def ends(self) -> dict[str, int]:
        """Where the control topics end now."""
        return await self._context.end_offsets(self._lane.topics)

    def reached(self, ends: dict[str, int]) -> bool:
        """Whether everything before the snapshot has been taken."""
        return all(self._context.position(topic) >= end for topic, end in ends.items())

    async def take_towards(self, ends: dict[str, int]) -> Taken:
        """Takes until the snapshot is reached, a batch is full, or nothing comes for a while.

        Records behind the snapshot may be among them.
        """
        taken = Taken()
        while not self.reached(ends):
            room = self._lane.records_max - len(taken.records)
            if room <= 0:
                break
            more = take_lane(self._context, self._lane, room)
            taken.extend(more)
            if more.records or self.reached(ends):
                continue
            if not await self._context.wait(self._lane.topics, WAIT_S):
                break
        # Taken in several goes, topics come mixed as they happened to arrive. The fence keeps only
        # positions: by topic, it says the order too, and the batch can be decided once more.
        taken.records.sort(key=self._rank)
        return taken

    def _rank(self, record: Record) -> int:
        return self._rank_of[record.topic]

    def take_at_hand(self) -> Taken:
        """What is here already."""
        return take_lane(self._context, self._lane)


class WallOrder:
    """The order of taking in wall mode; see the module's text."""

    def __init__(
        self, context: Context, control: Lane, events: Sequence[Lane], turns: Mapping[str, Turns]
    ) -> None:
        """``turns``: by lane, for those that have ``at_once_max``."""
        self._context = context
        self._control = Control(context, control)
        self._lanes = [
            (lane, Place(context, lane, turns[lane.name]) if lane.name in turns else None)
            for lane in events
        ]
        self._turns = tuple(turns.values())
        self._places = [place for _, place in self._lanes if place is not None]
        self._topics = (*control.topics, *(topic for lane in events for topic in lane.topics))
        self._held = Taken()
        self._is_full = False
        """There was more than the batch that was returned last could take."""
        self._was_urgent_alone = False
        """Of the batch that was returned last; never twice, or nothing else would be taken."""
        self._until: dict[str, int] | None = None
        self.caught_up = False
        """Whether the control topics were drained once since the start."""

    @property
    def holding(self) -> bool:
        """Whether something was fetched that waits for the control topics to be drained."""
        return self._until is not None or bool(self._held.records)

    async def take(self, timeout_s: float) -> Taken:
        """The next batch, or an empty one after ``timeout_s``."""
        if not self.caught_up or self._until is not None:
            return await self._take_control()
        self._held = self._take_events()
        if self._held.records:
            return await self._take_control()
        taken = self._control.take_at_hand()
        self._is_full = taken.is_full
        if not taken.records:
            await self._wait(timeout_s)
        return taken

    async def _take_control(self) -> Taken:
        """Control up to the snapshot; with the held events behind it when it is reached."""
        if self._until is None:
            self._until = await self._control.ends()
        taken = await self._control.take_towards(self._until)
        if self._control.reached(self._until):
            self._until = None
            self.caught_up = True
            held, self._held = self._held, Taken()
            taken.extend(held)
        self._is_full = taken.is_full
        return taken

    def _take_events(self) -> Taken:
        taken = Taken()
        alone = self._is_full and not self._was_urgent_alone
        self._was_urgent_alone = False
        for lane, place in self._lanes:
            before = len(taken.records)
            more = take_lane(self._context, lane) if place is None else place.take(before)
            taken.extend(more)
            if more.records and lane.urgent:
                for turns in self._turns:
                    turns.note_urgent()
                if alone:
                    self._was_urgent_alone = taken.is_full = True
                    break
        return taken

    # -- turns

    def let_others(self) -> None:
        """This partition has to wait for something: nobody else should wait for it."""
        for place in self._places:
            place.give_up()

    async def batch_done(self, took_s: float = 0.0) -> None:
        """The batch that was returned last is durable: somebody else may have the turn.

        ``took_s``: how long it took. Returns when the next may begin: records gather meanwhile,
        because a transaction costs as much for one of them as for a hundred.
        """
        for place in self._places:
            place.batch_done(took_s)
        settings = self._context.settings
        rest_s = min(took_s * settings.rest_share, settings.rest_ms_max / 1000)
        await asyncio.sleep(0.0 if self._is_full else rest_s)
        for place in self._places:
            place.queue()

    async def stop(self) -> None:
        """Gives up the turns, and what is held."""
        for place in self._places:
            await place.leave()

    async def _wait(self, timeout_s: float) -> None:
        for place in self._places:
            place.queue()
        turns = {place.waiting for place in self._places if place.waiting is not None}
        if not turns:
            await self._context.wait(self._topics, timeout_s)
            return
        arrival = asyncio.create_task(self._context.wait(self._topics, timeout_s))
        await asyncio.wait({arrival, *turns}, return_when=asyncio.FIRST_COMPLETED)
        arrival.cancel()
        await asyncio.gather(arrival, return_exceptions=True)
