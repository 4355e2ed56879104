"""The decision, a second time: naive, slow, and sharing nothing with the core but its nouns.

Written from the design's text alone. Everything is a list that is searched from the start; limits
count all sends there ever were; quiet hours ask a clock that is walked minute by minute; a digest
keeps all of its events. ``Reference.step`` takes the same input as ``decide`` and answers with
what must come out: ``Told`` for each entry, ``Leaves`` for each delivery. Subjects are named by
event id, digests by their order of opening.

Each rule is a module of ``tests/core/reference``; a class extends the one whose answers it needs.

Left to the core, and checked by the tests of that rule alone: identifiers, jitter (0 here), the
sizes of bounds, the wording of inputs. The moment of a retry is jittered by hash: the core's is
taken, once it is seen to lie within the limits that the retry rule sets.
"""

from __future__ import annotations

from streams.core.model import (
    Cancellation,
    Delivery,
    DestinationInput,
    EventInput,
    Feedback,
    Input,
    PreferenceInput,
    Preferences,
    Receipt,
    Wake,
)
from tests.core.reference.nouns import (
    KINDS,
    RANK,
    Again,
    Gathering,
    Hold,
    Leaves,
    Next,
    Told,
)
from tests.core.reference.people import People


class Reference(People):
    """The naive recipient."""

    def step(self, entered: Input, now_ms: int) -> tuple[list[Told], list[Leaves]]:
        """What must come out of this input at this time."""
        self.now, self.told, self.leaves = now_ms, [], []
        overdue = self.next_due_ms is not None and self.next_due_ms <= now_ms
        waits = overdue and not isinstance(entered, EventInput | Wake)
        if not waits:
            self.release()
        if isinstance(entered, EventInput):
            self.accept(entered.event, entered.source.appended_at_ms)
        elif isinstance(entered, PreferenceInput):
            self.choose(entered.preferences or Preferences())
        elif isinstance(entered, DestinationInput):
            self.register(entered)
        elif isinstance(entered, Receipt):
            self.hear(entered)
        elif isinstance(entered, Cancellation):
            self.cancel(entered)
        elif isinstance(entered, Feedback):
            self.answer(entered)
        if not waits:
            self.release()
        return self.told, self.leaves

    def release(self) -> None:
        """Everything due, the most urgent first, then the oldest."""
        while due := [item for item in self.waiting if item.due_ms <= self.now]:
            self.waiting = [item for item in self.waiting if item.due_ms > self.now]

            def order(item: Hold | Gathering | Again | Next) -> tuple[int, int, int]:
                told = item.delivery if isinstance(item, Again) else item.thing
                appended = told.appended_at_ms if isinstance(told, Delivery) else told.appended_ms
                return RANK[told.priority], appended, KINDS.index(type(item))

            for item in sorted(due, key=order):
                self.release_one(item)

    def release_one(self, item: Hold | Gathering | Again | Next) -> None:
        if isinstance(item, Hold):
            reason = "escalated" if item.step else "released"
            self.settle(item.thing, item.step, item.handed, reason=reason)
        elif isinstance(item, Next):
            self.settle(item.thing, item.step, item.handed, reason="escalated")
        elif isinstance(item, Again):
            attempt = item.delivery.attempt + 1
            self.send_again(item.delivery, item.subject, attempt, item.delivery.epoch, "retried")
        else:
            reason = item.closing if item.thing.members else "digest_empty"
            self.tell(item.name, "digest_closed", reason)
            if item.thing.members:
                self.settle(item.thing, reason="digest_sent")
