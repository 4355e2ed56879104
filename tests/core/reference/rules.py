"""Rules 3 to 9 on something to tell, in their order."""

from __future__ import annotations

from streams.core.model import (
    Destination,
)
from streams.core.policy import Category, DigestRule
from tests.core.reference.limits import Limits
from tests.core.reference.nouns import (
    MINUTE,
    Charge,
    Hold,
    Leaves,
    Next,
    Thing,
)


class Rules(Limits):
    """See the module's text."""

    def hold(
        self,
        thing: Thing,
        due_ms: int,
        why: str,
        step: int = 0,
        handed: tuple[tuple[str, str, int], ...] = (),
        local: str = "",
        lifetime: int = 0,
    ) -> None:
        due_ms = max(self.now + 1, min(due_ms, thing.expires_ms))
        self.waiting.append(Hold(thing, due_ms, why, step, handed, local, lifetime))
        self.tell(thing.subject, "held", why, due_ms)

    def settle(
        self,
        thing: Thing,
        step: int = 0,
        handed: tuple[tuple[str, str, int], ...] = (),
        without: str | None = None,
        charged: bool = False,
        reason: str = "routed",
    ) -> None:
        def end(verdict: str, why: str) -> None:
            self.tell(thing.subject, "noted" if step else verdict, why)

        critical = thing.priority == "critical"
        category = self.policy.categories.get(thing.category)
        if category is None:
            return self.tell(thing.subject, "dead_lettered", "unknown_category")
        if thing.expires_ms <= self.now:
            return end("expired", "expired")
        if self.killed(thing.category, thing.campaign):
            return end("dropped", "killed")
        for scope in ("all", f"category:{thing.category}"):
            if ban := self.banned(scope):
                return end("suppressed", ban.reason)
        order = self.order_of(category)
        usable: list[str] = [
            channel
            for place, channel in enumerate(order)
            if place >= step
            and channel != without
            and self.addresses(channel)
            and self.wants(category, channel)
        ]
        if not usable:
            left = [c for place, c in enumerate(order) if place >= step and c != without]
            return end(*self.why_none(category, left))
        if not critical and not category.mandatory and self.is_muted(thing, category):
            return end("suppressed", "muted")
        if thing.members:
            thing = self.still_wanted(thing, category)
            if not thing.members:
                return end("suppressed", "muted")
        fresh = not step and not charged
        if not critical:
            if self.prefs.snooze_until_ms > self.now:
                return self.hold(thing, self.prefs.snooze_until_ms, "snoozed", step, handed)
            until = self.quiet_until(self.now)
            if until is not None:
                soft: list[str] = [one for one in usable if one in set(category.downgrade_to)]
                if category.quiet_action == "drop":
                    return end("dropped", "quiet_hours")
                if category.quiet_action == "downgrade" and soft:
                    usable = soft
                else:
                    if category.quiet_action == "digest" and thing.event_id and fresh:
                        rule = self.rule_of(category) or category.digest or DigestRule("window")
                        if self.gather(thing, rule, until, "quiet_hours"):
                            return None
                    return self.hold(thing, until, "quiet_hours", step, handed)
            if fresh and thing.event_id and self.absorb(thing, category):
                return None
        return self.limit_and_send(
            thing, category, usable, step, handed, charged, reason, order, critical, fresh
        )

    def limit_and_send(
        self,
        thing: Thing,
        category: Category,
        usable: list[str],
        step: int,
        handed: tuple[tuple[str, str, int], ...],
        charged: bool,
        reason: str,
        order: list[str],
        critical: bool,
        fresh: bool,
    ) -> None:
        chosen, refusal = self.with_room(category, usable, charged, critical)
        if refusal is not None:
            rule, free_ms = refusal
            if rule.over == "drop":
                verdict = "noted" if step else "dropped"
                return self.tell(thing.subject, verdict, "rate_limited")
            if rule.over == "digest" and thing.event_id and fresh:
                digest = self.rule_of(category) or category.digest or DigestRule("window")
                if self.gather(thing, digest, free_ms, "rate_limited"):
                    return None
            return self.hold(thing, free_ms, "rate_limited", step, handed)
        everyone = [d.destination_id for _, found in chosen for d in found]
        channels = frozenset(channel for channel, _ in chosen)
        self.charges.append(
            Charge(self.now, thing.category, not charged, channels, tuple(everyone))
        )
        rule_now = self.rule_of(category)
        if fresh and not critical and rule_now is not None and rule_now.mode == "lookback":
            self.lookbacks[thing.category, self.key_of(thing, rule_now)] = self.now
        for channel, found in chosen:
            place = order.index(channel) if category.route == "escalate" else 0
            for destination in found:
                self.leave(thing, category, channel, destination, place)
                handed = (*handed, (channel, destination.destination_id, place))
        self.tell(thing.subject, "delivering", reason)
        if category.route == "escalate":
            self.waiting = [
                item
                for item in self.waiting
                if not (isinstance(item, Next) and item.thing.subject == thing.subject)
            ]
            place = order.index(chosen[0][0])
            if place + 1 < len(order):
                due = self.now + category.escalate_after_ms
                self.waiting.append(Next(thing, place + 1, due, handed))
        return None

    def leave(
        self, thing: Thing, category: Category, channel: str, to: Destination, step: int
    ) -> None:
        valid = self.valid_until(thing.priority, category, channel, thing.expires_ms)
        name = self.delivery_id(thing.subject, channel, to.destination_id, step)
        known = self.answered.get(name)
        epoch = known[0][0] + 1 if known else 0  # The same event, accepted again much later.
        if known:
            self.remember_answer(name, (epoch, 0), thing.expires_ms)
        self.leaves.append(
            Leaves(
                thing.subject,
                channel,
                to.destination_id,
                to.address,
                step,
                1,
                epoch,
                thing.count,
                thing.actors,
                thing.shown_ids,
                valid,
                thing.expires_ms,
                thing.priority,
            )
        )

    def valid_until(self, priority: str, category: Category, channel: str, expires: int) -> int:
        valid = min(expires, self.now + self.policy.delivery_valid_ms)
        is_soft = category.quiet_action == "downgrade" and channel in category.downgrade_to
        if priority == "critical" or is_soft:
            return valid
        quiet = self.quiet_set()
        for minute in range(self.now // MINUTE + 1, valid // MINUTE + 1):
            if minute in quiet and minute - 1 not in quiet:
                return min(valid, minute * MINUTE)
        return valid
