"""One kind of destination on one partition: what waits, what is under way, in which order.

Rules, each of which costs a look-up and no scan::

    critical first      two queues; the ordinary one moves only when the critical one cannot
    order               one delivery of a recipient is under way at a time, the next in order waits
    collapse            a newer delivery with the same key replaces one that has not begun
    window              nothing is begun that a successor would take for unsent (positions.py)
    stale, killed       looked at in the moment of sending, and swept while a provider is away

Other recipients pass one that waits. The kinds of one channel (apns, fcm, webpush) are lanes of
their own: they are different devices, and no order exists between devices.

Invariants: every delivery that is added is finished exactly once, unless the lane is abandoned;
at most one is under way for a recipient; a queue is in the order of its topic; ``finish`` is called
on the event loop, never twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from functools import partial

from streams.agents.deliver_item import Item, LaneHost
from streams.core.model import Delivery
from streams.sinks.base import Ambiguous, Answer, Killed, Outcome, Rejected, Stale, Wait
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider
from streams.templates.rendered import RenderFailed

OUTSIDE = frozenset({"breaker", "budget", "killed"})
"""Reasons of ``Wait`` that are nobody's fault here, however long they last."""


class Lane:
    """The deliveries of one kind on one partition."""

    def __init__(self, host: LaneHost, dispatcher: Dispatcher, wall: bool, collapse: bool) -> None:
        self._host = host
        self._dispatcher = dispatcher
        self._wall = wall
        self._collapse = collapse and wall
        self._queues: tuple[deque[Item], deque[Item]] = (deque(), deque())
        self._behind: dict[str, deque[Item]] = {}
        self._replaceable: dict[tuple[str, str, str], Item] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._held_for: str | None = None
        """Why no provider would take the head of a queue when it was last asked, if none would."""
        self.waiting = 0
        """Added and not finished."""

    @property
    def under_way(self) -> int:
        """Sends that have begun and not ended."""
        return len(self._tasks)

    @property
    def is_excused(self) -> bool:
        """Whether there is a reason from outside for finishing nothing: a provider that is away,
        stopped or out of quota, or an answer that is awaited (which has a deadline)."""
        return self._held_for in OUTSIDE or bool(self._tasks) or not self.waiting

    def add(self, item: Item) -> None:
        """Takes a delivery in, in the order of its topic."""
        self.waiting += 1
        if self._collapse and item.delivery.collapse_key:
            self._replace_older(item)
        self._queue_of(item).append(item)

    def pump(self) -> None:
        """Begins whatever may begin now. Cheap when nothing may."""
        if not (self._queues[0] or self._queues[1]):
            return
        now_ms = self._host.now_ms()
        for queue in self._queues:
            while queue and self._advance(queue, now_ms):
                pass

    def sweep(self) -> None:
        """Answers what has become too late or was killed while no provider could be had.

        While they can be had it is not needed: each is looked at in the moment of its sending.
        """
        if self._held_for is None or not self._host.leased():
            return
        now_ms = self._host.now_ms()
        for item in list(self._unsent()):
            outcome = None if item.finished or item.begun else self._verdict(item, now_ms)
            if outcome is not None:
                self._finish(item, Answer(outcome, ""))

    async def drained(self) -> None:
        """Returns when no send is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def abandon(self) -> None:
        """Stops everything where it is."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------------------------- inside

    def _advance(self, queue: deque[Item], now_ms: int) -> bool:
        """Moves the head of a queue on; False when the queue cannot move now."""
        item = queue[0]
        recipient = item.delivery.recipient_id
        if item.finished:
            queue.popleft()
            return True
        if recipient in self._behind:
            self._behind[recipient].append(queue.popleft())
            return True
        outcome = self._verdict(item, now_ms)
        if outcome is not None:
            if not self._host.leased():
                return False  # its successor may have sent it: "too late" would send it again
            queue.popleft()
            self._finish(item, Answer(outcome, ""))
            return True
        if not self._host.may_begin(item):
            return False
        chosen = self._dispatcher.reserve(item.delivery, now_ms)
        if isinstance(chosen, Rejected):
            queue.popleft()
            self._finish(item, Answer(chosen, ""))
            return True
        if isinstance(chosen, Wait):
            if not chosen.alone:
                self._held_for = chosen.reason
                self._pump_in(chosen.for_ms)
                return False
            queue.popleft()
            self._set_aside(item, chosen.for_ms)
            return True
        queue.popleft()
        self._begin(item, chosen)
        return True

    def _verdict(self, item: Item, now_ms: int) -> Outcome | None:
        """Why it is not to be sent any more, if so."""
        delivery = item.delivery
        switch = self._host.killed_by(delivery)
        if switch is not None:
            return Killed(switch)
        if item.entry.doubtful and delivery.on_ambiguous == "give_up":
            return Ambiguous("restarted", "may have been sent before the worker was restarted")
        if self._wall:
            if now_ms >= delivery.expires_at_ms:
                return Stale("expired")
            if now_ms >= delivery.valid_until_ms:
                return Stale("validity_over")
        return None

    def _begin(self, item: Item, provider: Provider) -> None:
        item.begun = True
        self._host.begins(item)
        self._held_for = None
        self._behind[item.delivery.recipient_id] = deque()
        task = asyncio.create_task(self._send(item, provider))
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_done, item, provider))

    async def _send(self, item: Item, provider: Provider) -> None:
        item.sending = True
        rendered = self._host.render(item.delivery)
        if isinstance(rendered, RenderFailed):
            self._dispatcher.release(provider)
            answer = Answer(Rejected(rendered.reason, rendered.detail), provider.name)
        else:
            answer = await self._dispatcher.send(provider, item.delivery, rendered)
        self._finish(item, answer)
        self._let_next(item.delivery.recipient_id)

    def _on_done(self, item: Item, provider: Provider, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not item.sending:  # cancelled before it first ran: nobody else gives the place back
            self._dispatcher.release(provider)
        if not task.cancelled() and task.exception() is None:
            self.pump()
        elif not task.cancelled():
            error = task.exception()
            assert error is not None
            self._host.fail(error)

    def _finish(self, item: Item, answer: Answer) -> None:
        assert not item.finished, "finished once"
        item.finished = True
        self.waiting -= 1
        if self._collapse and item.delivery.collapse_key:
            key = _collapse_key(item.delivery)
            if self._replaceable.get(key) is item:
                del self._replaceable[key]
        self._host.finish(item, answer)

    def _let_next(self, recipient: str) -> None:
        """The recipient's next may go: critical ones first, else in order.

        Each goes back to its place and not to the front: a window is counted from the last answer,
        so a late one at the head of the queue would be outside it, with those that could move it
        on stuck behind.
        """
        for item in self._behind.pop(recipient):
            if item.finished:
                continue
            queue = self._queue_of(item)
            place = 0
            while place < len(queue) and queue[place].entry.rank < item.entry.rank:
                place += 1
            queue.insert(place, item)

    def _set_aside(self, item: Item, for_ms: int) -> None:
        """Only this destination has to wait: its recipient's others wait behind it."""
        recipient = item.delivery.recipient_id
        self._behind[recipient] = deque([item])
        loop = asyncio.get_running_loop()
        loop.call_later(for_ms / 1000, self._resume, recipient)

    def _resume(self, recipient: str) -> None:
        self._let_next(recipient)
        self.pump()

    def _replace_older(self, item: Item) -> None:
        key = _collapse_key(item.delivery)
        older = self._replaceable.get(key)
        if (
            older is not None
            and self._host.leased()
            and not older.begun
            and not older.finished
            and not older.entry.doubtful
        ):
            self._finish(older, Answer(Rejected("collapsed", "a newer one replaced it"), ""))
        self._replaceable[key] = item

    def _queue_of(self, item: Item) -> deque[Item]:
        return self._queues[0 if item.critical else 1]

    def _unsent(self) -> Iterator[Item]:
        for queue in (*self._queues, *self._behind.values()):
            yield from queue

    def _pump_in(self, for_ms: int) -> None:
        """Asks again then, unless that is planned for sooner: a full provider is asked often."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + for_ms / 1000
        if self._timer is not None:
            if loop.time() <= self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer, self._timer_due_s = loop.call_later(for_ms / 1000, self._on_timer), due_s

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()


def _collapse_key(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.recipient_id, delivery.destination_id, delivery.collapse_key or ""
