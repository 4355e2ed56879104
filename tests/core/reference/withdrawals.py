"""Cancellation, supersession and collapse, by looking at everything."""

from __future__ import annotations

from collections.abc import Callable

from streams.core.model import (
    Cancellation,
    Delivery,
)
from tests.core.reference.nouns import (
    HOUR,
    Again,
    Gathering,
    Hold,
    Member,
    Next,
    Thing,
)
from tests.core.reference.rules import Rules


class Withdrawals(Rules):
    """See the module's text."""

    def is_withdrawn(self, event_id: str) -> bool:
        return self.withdrawn.get(event_id, -1) > self.now

    def outdated(self, category: str, key: str | None, appended_ms: int) -> str | None:
        if key is None:
            return None
        if appended_ms < self.newest.get(("*", key), -1):
            return "cancelled_before_arrival"
        return "collapsed" if appended_ms < self.newest.get((category, key), -1) else None

    def withdrawn_meanwhile(self, delivery: Delivery) -> str | None:
        if delivery.event_id is not None and self.is_withdrawn(delivery.event_id):
            return "cancelled"
        return self.outdated(delivery.category, delivery.collapse_key, delivery.appended_at_ms)

    def cancel(self, request: Cancellation) -> None:
        key = request.collapse_key
        if key is not None:
            mark = request.source.appended_at_ms + 1
            if self.newest.get(("*", key), -1) < mark:
                self.newest["*", key] = mark
                if not self.withdraw(
                    lambda t: t.collapse_key == key, lambda m, _: m.collapse_key == key, "cancelled"
                ):
                    self.tell("*", "noted", "too_late_to_cancel")
        if request.event_id is not None:
            self.withdraw_event(request.event_id, "cancelled")

    def withdraw_event(self, event_id: str, reason: str) -> None:
        if self.is_withdrawn(event_id):
            return
        self.withdrawn[event_id] = self.now + self.policy.cancel_horizon_ms
        if self.withdraw(
            lambda t: t.event_id == event_id, lambda m, _: m.event_id == event_id, reason
        ):
            return
        horizon = (self.now - self.policy.dedupe_horizon_ms) // HOUR
        seen = any(known == event_id and hour >= horizon for known, hour, _ in self.accepted)
        self.tell(event_id, "noted", "too_late_to_cancel" if seen else "cancel_remembered")

    def withdraw(
        self,
        is_meant: Callable[[Thing | Delivery], bool],
        is_member: Callable[[Member, str], bool],
        reason: str,
    ) -> bool:
        """Takes out what is meant; True when something will not be told that would have been."""
        kept: list[Hold | Gathering | Again | Next] = []
        gone: dict[str, None] = {}
        for item in self.waiting:
            if isinstance(item, Again) and is_meant(item.delivery):
                gone[item.subject] = None
            elif isinstance(item, Next) and is_meant(item.thing):
                self.tell(item.thing.subject, "noted", "escalation_ended")
            elif isinstance(item, Hold) and is_meant(item.thing):
                if item.step:
                    self.tell(item.thing.subject, "noted", "step_ended")
                else:
                    gone[item.thing.subject] = None
            else:
                kept.append(item)
        for subject in gone:
            self.tell(subject, "cancelled", reason)
        self.waiting, left = [], False
        for item in kept:
            if isinstance(item, Gathering):
                left |= self.leave_digest(item.thing, is_member, reason)
            elif isinstance(item, Hold) and item.thing.event_id is None:
                has_left = self.leave_digest(item.thing, is_member, reason)
                left |= has_left
                if has_left and not item.thing.members:
                    self.tell(item.thing.subject, "cancelled", "digest_empty")
                    continue
            self.waiting.append(item)
        return bool(gone) or left

    def leave_digest(
        self,
        body: Thing,
        is_member: Callable[[Member, str], bool],
        reason: str,
    ) -> bool:
        meant = [member for member in body.members if is_member(member, body.category)]
        for member in meant:
            self.tell(member.event_id, "cancelled", reason)
        ids = {member.event_id for member in meant}
        body.members = [member for member in body.members if member.event_id not in ids]
        body.shown = [member for member in body.shown if member.event_id not in ids]
        return bool(meant)
