"""Which deliveries of a topic are answered, and what a successor must know to go on.

A committed position carries a mark: from which offset of ``outcomes`` on the answers to later
deliveries are found, whether the owner stopped cleanly, and how far it may have run ahead. From
these and the tail of ``outcomes`` a successor sorts every record into one of four::

    answered    its answer is in the tail                        -> nothing to do
    ambiguous   no answer, and sending may have begun            -> the category's policy decides
    unsent      no answer, and sending cannot have begun         -> send
    new         never taken before                               -> send

Three things bound what may have begun without an answer: a committed mark names the offset below
which records may be sent (``send_below``); sending runs at most the mark's ``ahead_max`` records
ahead of the last durable answer; and what was appended after the successor began was never the
predecessor's. After a clean stop nothing is in doubt.

``ahead_max`` of a mark follows what is really sent: what has begun beyond the last answer, and as
much again as was begun since the mark before, at least ``AHEAD_MIN``. So a worker that dies while
a provider is away, or with little to do, leaves a handful in doubt and not a window of them.

Pure. Invariants: a position is committed only when everything before it is answered durably; a
record is sent only when a committed mark names it, and inside that mark's window; while a new mark
is being committed both it and the one before hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal

from streams.agents.deliver_terms import Answered, Mark

Standing = Literal["answered", "ambiguous", "unsent"]
AHEAD_MIN = 4
"""Records that may be sent ahead of a durable answer however little was sent before."""


class Predecessor:
    """What the previous owner may have done with records of one topic."""

    def __init__(self, mark: Mark, answered: Mapping[int, Answered], end: int) -> None:
        self._answered = dict(answered)
        self._last = max(answered, default=-1)
        self._doubt_below = -1 if mark.clean else min(mark.send_below, end)
        self._ahead_left = mark.ahead_max

    def concerns(self, next_offset: int) -> bool:
        """False when every record from ``next_offset`` on is new."""
        in_doubt = next_offset < self._last or self._ahead_left > 0
        return bool(self._answered) or (next_offset < self._doubt_below and in_doubt)

    def standing(self, offset: int, delivery_id: str) -> tuple[Standing, int]:
        """(what became of the next record of the topic, where its answer is or -1).

        To be asked once for each record, in offset order.
        """
        answer = self._answered.pop(offset, None)
        if answer is not None and answer.delivery_id == delivery_id:
            return "answered", answer.outcome_offset
        if offset >= self._doubt_below:
            return "unsent", -1
        if offset < self._last:
            return "ambiguous", -1
        if self._ahead_left > 0:
            self._ahead_left -= 1
            return "ambiguous", -1
        return "unsent", -1


class Entry:
    """One taken record of a topic."""

    __slots__ = ("doubtful", "offset", "outcome_offset", "rank")

    def __init__(self, offset: int, rank: int) -> None:
        self.offset = offset
        self.rank = rank
        self.doubtful = False
        """A previous owner may have sent it."""
        self.outcome_offset = -1
        """Of its durable answer; -1 while there is none."""


class TopicPositions:
    """Records of one topic from the committed position on, and the window for sending."""

    def __init__(
        self, position: int, end: int, mark: Mark, answered: Mapping[int, Answered],
        ahead_max: int, slack: int,
    ) -> None:  # fmt: skip
        self._entries: deque[Entry] = deque()
        self._next = position
        self._ranks = 0
        self._durable_rank = 0
        """Of the last answer that a successor can see."""
        self._passed_rank = 0
        self._marked_rank = 0
        """Last record that the position has passed: now, and when a mark was last made."""
        self._begun_rank = 0
        """Nothing behind this one has begun, here or at the predecessor as far as it was read."""
        self._begun_lately = 0
        """Sends begun since a mark was last made."""
        self._ahead_max = ahead_max
        self._ahead_allowed = 0
        """By every mark that may be the one that a successor finds."""
        self._slack = slack
        self._send_below = position
        self._inherited = mark
        ahead = {offset: answer for offset, answer in answered.items() if offset >= position}
        predecessor = Predecessor(mark, ahead, end)
        self._predecessor = predecessor if predecessor.concerns(position) else None

    @property
    def next_offset(self) -> int:
        """Offset of the next record to take."""
        return self._next

    @property
    def outstanding(self) -> int:
        """Records taken and not yet passed by the position."""
        return len(self._entries)

    def take(self, offset: int, delivery_id: str) -> tuple[Entry, Standing]:
        """A record was taken: its entry, and what a previous owner did with it."""
        self._ranks += 1
        entry = Entry(offset, self._ranks)
        self._entries.append(entry)
        self._next = offset + 1
        if self._predecessor is None:
            return entry, "unsent"
        standing, outcome_offset = self._predecessor.standing(offset, delivery_id)
        if not self._predecessor.concerns(self._next):
            self._predecessor = None
        if standing == "answered":
            self.answer(entry, outcome_offset)
        elif standing == "ambiguous":
            entry.doubtful = True
            self._begun_rank = entry.rank
        return entry, standing

    def may_send(self, entry: Entry) -> bool:
        """Whether ``entry`` is inside the marked window and a committed mark names it."""
        inside = entry.rank <= self._durable_rank + self._ahead_allowed
        return inside and entry.offset < self._send_below

    def begins(self, entry: Entry) -> None:
        """Sending ``entry`` begins; ``may_send`` has said that it may."""
        self._begun_lately += 1
        self._begun_rank = max(self._begun_rank, entry.rank)

    def is_inside(self, entry: Entry) -> bool:
        """Whether ``entry`` is inside the widest window: then only commits can be missing."""
        return entry.rank <= max(self._durable_rank, self._passed_rank) + self._ahead_max

    def committed(self, mark: Mark) -> None:
        """The mark made last was committed: what it names may be sent."""
        self._send_below = mark.send_below
        self._ahead_allowed = mark.ahead_max
        self._durable_rank = max(self._durable_rank, self._marked_rank)

    def answer(self, entry: Entry, outcome_offset: int) -> None:
        """The answer to ``entry`` is durable."""
        entry.outcome_offset = outcome_offset
        self._durable_rank = max(self._durable_rank, entry.rank)
        self._pass_on()

    def leave(self, entry: Entry, outcomes_end: int) -> None:
        """``entry`` has ended durably elsewhere (a dead letter): no outcome says so.

        The window moves for it only with the committed position: a successor cannot see it in
        the tail of ``outcomes``.
        """
        entry.outcome_offset = outcomes_end
        self._pass_on()

    def _pass_on(self) -> None:
        entries = self._entries
        while entries and entries[0].outcome_offset >= 0:
            self._passed_rank = entries.popleft().rank

    def moved_past(self, position: int) -> None:
        """Where reading stands: past transaction markers, when nothing is outstanding."""
        self._next = max(self._next, position)
        if self._predecessor is not None and not self._predecessor.concerns(self._next):
            # Behind its last record lies a marker: on a quiet topic nothing else would come.
            self._predecessor = None

    def to_commit(self, outcomes_end: int, clean: bool) -> tuple[int, Mark]:
        """Position and mark as they are now; "clean" only if nothing here is in doubt.

        Until ``committed`` is called with the mark, no more begins than the mark covers.
        """
        position = self._entries[0].offset if self._entries else self._next
        self._marked_rank = self._passed_rank
        ahead = [e.outcome_offset for e in self._entries if e.outcome_offset >= 0]
        in_doubt = any(e.doubtful and e.outcome_offset < 0 for e in self._entries)
        send_below, ahead_max = self._next + self._slack, self._ahead_now()
        if self._predecessor is not None:
            ahead.append(self._inherited.outcomes_from)
            if not self._inherited.clean:
                in_doubt = True
                send_below = max(send_below, self._inherited.send_below)
                # A successor must reckon with what the predecessor was allowed as well.
                ahead_max = max(ahead_max, self._inherited.ahead_max)
        outcomes_from = min(ahead, default=outcomes_end)
        if clean and not in_doubt:
            return position, Mark(outcomes_from, True, 0, position)
        self._ahead_allowed = min(self._ahead_allowed, ahead_max)
        self._send_below = min(self._send_below, send_below)
        return position, Mark(outcomes_from, False, ahead_max, send_below)

    def _ahead_now(self) -> int:
        """A window for what has begun, and for as much again as was begun of late."""
        reach = max(0, self._begun_rank - self._durable_rank)
        room = max(AHEAD_MIN, 2 * self._begun_lately)
        self._begun_lately = 0
        return max(reach, min(self._ahead_max, reach + room))
