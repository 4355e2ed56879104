"""What recipients say and what is heard of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import msgspec

from streams.core.model import (
    DestinationInput,
    Preferences,
    Receipt,
)
from tests.core.reference.answers import Answers
from tests.core.reference.nouns import (
    Again,
    Ban,
    Gathering,
    Hold,
    Next,
)


class People(Answers):
    """See the module's text."""

    def choose(self, new: Preferences) -> None:
        old, now = self.prefs, self.now
        if new == old:
            return
        self.prefs = new
        scopes = ["all"] if new.default and not old.default else []
        scopes += [
            f"category:{c}" for c, on in new.categories.items() if on and not old.categories.get(c)
        ]
        scopes += [
            f"channel:{c}" for c, on in new.channels.items() if on and not old.channels.get(c)
        ]
        for scope in scopes:
            back = [
                ban
                for ban in self.bans
                if ban.scope == scope
                and ban.reason == "unsubscribed"
                and ban.at_ms < new.updated_at_ms
            ]
            if back:
                self.bans = [ban for ban in self.bans if ban not in back]
                self.tell("*", "noted", "suppression_lifted")
        for item in self.waiting:
            if (isinstance(item, Hold) and item.why in ("quiet_hours", "snoozed")) or (
                isinstance(item, Again) and item.waits_for
            ):
                item.due_ms = now
            elif isinstance(item, Hold) and item.local and new.zone != old.zone:
                due = max(now, self.reach(datetime.fromisoformat(item.local)))
                if item.lifetime_ms:
                    item.thing = replace(item.thing, expires_ms=due + item.lifetime_ms)
                item.due_ms = min(due, item.thing.expires_ms)
            elif isinstance(item, Gathering):
                self.move_digest(item, old)

    def move_digest(self, item: Gathering, old: Preferences) -> None:
        category = self.policy.categories.get(item.thing.category)
        if category is None or item.opened_by == "rate_limited":
            return
        if item.opened_by == "quiet_hours":
            item.due_ms = self.quiet_until(self.now) or self.now
            return
        rule = self.rule_of(category)
        if rule is None:
            item.due_ms, item.closing = self.now, "digest_choice"
        elif rule != self.rule_of(category, old) or (
            rule.mode == "calendar" and old.zone != self.prefs.zone
        ):
            item.due_ms = max(self.now, self.closes(rule, item, self.now))

    def register(self, change: DestinationInput) -> None:
        new = change.destination
        known = [d for d in self.destinations if d.destination_id == new.destination_id]
        if change.removed:
            if (
                known
                and known[0].registered_at_ms <= change.at_ms
                and new.address in ("", known[0].address)
            ):
                self.destinations.remove(known[0])
                self.tell("*", "noted", "destination_removed")
            return
        if known and known[0].registered_at_ms >= new.registered_at_ms:
            return
        if known:
            self.destinations.remove(known[0])
            if known[0].address != new.address:
                self.bans = [
                    ban
                    for ban in self.bans
                    if ban.scope != f"destination:{new.destination_id}"
                    or ban.reason not in ("bounced", "soft_bounced")
                    or ban.at_ms >= new.registered_at_ms
                ]
        self.destinations.append(new)
        self.destinations.sort(key=lambda d: (d.registered_at_ms, d.destination_id))

    def hear(self, receipt: Receipt) -> None:
        named = receipt.name if receipt.kind == "business" else receipt.kind

        def is_about(subject_id: str, event_id: str | None, handed: tuple[str, ...]) -> bool:
            if receipt.notification_id is not None:
                return receipt.notification_id == subject_id
            if receipt.event_id is not None:
                return receipt.event_id == event_id
            if receipt.delivery_id is not None:
                return receipt.delivery_id in handed
            return receipt.kind == "business"

        kept: list[Hold | Gathering | Again | Next] = []
        for item in self.waiting:
            if isinstance(item, Gathering) or (isinstance(item, Hold) and not item.step):
                kept.append(item)
                continue
            name = item.delivery.category if isinstance(item, Again) else item.thing.category
            category = self.policy.categories.get(name)
            ends = (
                category is not None
                and category.route == "escalate"
                and named in category.escalate_until
            )
            if isinstance(item, Again):
                told = item.delivery
                if ends and is_about(told.notification_id, told.event_id, ()):
                    self.tell(item.subject, "noted", "retry_ended")
                    continue
            else:
                handed = tuple(self.delivery_id(item.thing.subject, *one) for one in item.handed)
                subject_id = self.notification_id(item.thing.subject)
                if ends and is_about(subject_id, item.thing.event_id, handed):
                    why = "step_ended" if isinstance(item, Hold) else "escalation_ended"
                    self.tell(item.thing.subject, "noted", why)
                    continue
            kept.append(item)
        self.waiting = kept
        self.ban_for(receipt)

    def ban_for(self, receipt: Receipt) -> None:
        at_ms, until_ms = min(receipt.occurred_at_ms, self.now), None
        scope = f"destination:{receipt.destination_id}" if receipt.destination_id else None
        if receipt.kind == "unsubscribed":
            scope = receipt.name or scope or "all"
            if scope.startswith("cell:"):
                cell = {scope.removeprefix("cell:"): False}
                since_ms = max(self.prefs.updated_at_ms, at_ms)
                if self.prefs.cells.items() >= cell.items():
                    return
                self.choose(
                    msgspec.structs.replace(
                        self.prefs, cells=self.prefs.cells | cell, updated_at_ms=since_ms
                    )
                )
                return
        elif receipt.kind == "soft_bounced":
            until_ms = at_ms + self.policy.soft_bounce_ms
            if until_ms <= self.now:
                return
        elif receipt.kind not in ("bounced", "complained"):
            return
        if scope is None:
            return
        for ban in self.bans:
            lasts = ban.until_ms is None or (until_ms is not None and ban.until_ms >= until_ms)
            if (ban.scope, ban.reason) == (scope, receipt.kind) and lasts:
                return
        self.bans = [
            ban
            for ban in self.bans
            if (ban.scope, ban.reason) != (scope, receipt.kind)
            and (ban.until_ms is None or ban.until_ms > self.now)
        ]
        self.bans.append(Ban(scope, receipt.kind, at_ms, until_ms))
        self.tell("*", "noted", "suppression_added")
