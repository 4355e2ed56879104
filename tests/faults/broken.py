"""Products that are broken on purpose: each must be caught, or the checks are worth nothing.

Each is the product with one thing patched from here, so that no switch for breaking it is in the
product itself. ``BREAKS`` names them; as a module this starts a worker of the broken product:
``python -m tests.faults.broken NAME worker ROLE ...``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from streams.agents import deliver_partition, deliver_takeover
from streams.agents.deliver_lane import Lane
from streams.agents.deliver_positions import TopicPositions
from streams.core import preferences, quiet_hours
from streams.engine.partition import StatefulRunner
from streams.engine.transaction import PartitionProducer
from streams.sinks.base import Rejected, Retry, Stale
from streams.sinks.dispatch import Dispatcher

SLOW_DOWN = ("throttled", "too_many_requests")
Undo = Callable[[], None]


def _patch(where: Any, name: str, value: Any) -> Undo:
    before = getattr(where, name)
    setattr(where, name, value)
    return lambda: setattr(where, name, before)


def commit_before_send() -> Undo:
    """A delivery's position moves on when it is taken, not when its answer is durable."""

    class Hasty(TopicPositions):
        def to_commit(self, outcomes_end: int, clean: bool) -> Any:
            _, mark = super().to_commit(outcomes_end, clean)
            return self.next_offset, replace(mark, outcomes_from=outcomes_end, clean=True)

    return _patch(deliver_takeover, "TopicPositions", Hasty)


def drop_on_429() -> Undo:
    """A provider that asks to slow down is understood as one that refuses."""
    attempt = Dispatcher._attempt

    async def _attempt(self: Any, *arguments: Any) -> Any:
        outcome = await attempt(self, *arguments)
        slow_down = isinstance(outcome, Retry) and outcome.reason in SLOW_DOWN
        return Rejected(outcome.reason, outcome.detail) if slow_down else outcome

    return _patch(Dispatcher, "_attempt", _attempt)


def skip_opt_out() -> Undo:
    """What the recipient chose is not looked at."""
    return _patch(preferences, "wants", lambda *_: (True, "never asked"))


def outputs_after_fence() -> Undo:
    """State and fence are committed first, what was decided in a transaction of its own."""
    write = PartitionProducer._write

    async def _write(self: Any, outputs: Any, changelog: str, changes: Any) -> int:
        offset = await write(self, (), changelog, changes)
        await write(self, outputs, changelog, [(b"\x00later", b"")])
        return offset

    return _patch(PartitionProducer, "_write", _write)


def skip_quiet_hours() -> Undo:
    """Nobody sleeps."""
    return _patch(quiet_hours, "quiet_until", lambda *_: None)


def skip_validity() -> Undo:
    """A sink sends whatever was decided however long ago."""
    verdict = Lane._verdict

    def _verdict(self: Any, item: Any, now_ms: int) -> Any:
        outcome = verdict(self, item, now_ms)
        return None if isinstance(outcome, Stale) else outcome

    return _patch(Lane, "_verdict", _verdict)


def forget_doubt() -> Undo:
    """A new owner takes whatever has no answer for unsent."""
    take = TopicPositions.take

    def forgetful(self: Any, offset: int, delivery_id: str) -> Any:
        entry, standing = take(self, offset, delivery_id)
        entry.doubtful = False
        return entry, "unsent" if standing == "ambiguous" else standing

    return _patch(TopicPositions, "take", forgetful)


def overtake() -> Undo:
    """The latest of what waits goes first."""
    add = Lane.add

    def hasty(self: Any, item: Any) -> None:
        add(self, item)
        queue = self._queue_of(item)
        queue.rotate(1)

    return _patch(Lane, "add", hasty)


def pass_the_undecided() -> Undo:
    """The last fence passes whatever was read, decided or not (a bug that was once in here)."""

    def _pass_markers(self: Any) -> None:
        position, fenced = self._context.position, self._fence.positions
        moved = {topic: position(topic) for topic in fenced}
        self._fence = replace(self._fence, positions={**fenced, **moved})
        self._unwritten_since = self._unwritten_since or 1.0

    return _patch(StatefulRunner, "_pass_markers", _pass_markers)


def no_lease() -> Undo:
    """A worker that stood still believes that everything is still its own."""
    return _patch(deliver_partition.DeliverRunner, "leased", lambda _: True)


def tell_no_end_again() -> Undo:
    """What a starting cluster forgot stays forgotten."""

    async def _tell_again(*_: object) -> None:
        """Nothing is told."""

    return _patch(PartitionProducer, "_tell_again", _tell_again)


def go_on_unheard() -> Undo:
    """Who lives on does not ask whether all have heard how its latest transaction ended."""

    async def ask_nobody(*_: object) -> None:
        """It is taken for granted."""

    undoes = [
        _patch(PartitionProducer, name, ask_nobody) for name in ("heard", "look_whether_heard")
    ]

    def undo() -> None:
        for one in undoes:
            one()

    return undo


BREAKS: dict[str, Callable[[], Undo]] = {
    "commit before send": commit_before_send,
    "drop on 429": drop_on_429,
    "skipped opt-out check": skip_opt_out,
    "outputs after the fence": outputs_after_fence,
    "skipped quiet hours": skip_quiet_hours,
    "skipped validity": skip_validity,
    "forgotten doubt": forget_doubt,
    "overtaking": overtake,
    "passing the undecided": pass_the_undecided,
    "no lease": no_lease,
    "an end not told again": tell_no_end_again,
    "going on unheard": go_on_unheard,
}
"""The first three are the ones that every suite has to catch; the others prove a check each."""


def main() -> None:
    """The command line of the broken product."""
    from streams.cli import main as flowstate

    BREAKS[sys.argv[1]]()
    flowstate(args=sys.argv[2:], prog_name="flowstate")


if __name__ == "__main__":
    main()
