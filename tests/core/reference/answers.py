"""Providers' answers, and what is tried again."""

from __future__ import annotations

from streams.core.model import (
    Delivery,
    Destination,
    Feedback,
)
from streams.core.policy import Category
from tests.core.reference.events import Events
from tests.core.reference.nouns import (
    Again,
    ClosedThing,
    Leaves,
    MismatchError,
    Next,
    Thing,
    delivery_with,
)


class Answers(Events):
    """See the module's text."""

    def answer(self, feedback: Feedback) -> None:
        delivery, status = feedback.delivery, feedback.status
        mark = (delivery.epoch, delivery.attempt)
        known = self.answered.get(delivery.delivery_id)
        if known is not None and known[0] >= mark:
            return
        self.remember_answer(delivery.delivery_id, mark, delivery.expires_at_ms)
        self.waiting = [
            item
            for item in self.waiting
            if not (isinstance(item, Again) and item.delivery.delivery_id == delivery.delivery_id)
        ]
        subject = self.subject_of(delivery)
        if status == "ambiguous":
            status = "retry" if delivery.on_ambiguous == "resend" else status
        if status == "retry":
            self.plan_retry(feedback, subject)
        elif status == "ambiguous":
            self.tell(subject, "dropped", "ambiguous_given_up")
        elif status == "unregistered":
            self.unregister(feedback, subject)
        elif status == "stale":
            self.send_again(
                delivery, subject, delivery.attempt, delivery.epoch + 1, "decided_again"
            )
        elif status == "redrive":
            self.send_again(delivery, subject, 1, delivery.epoch, "redriven")
        elif status == "killed":
            self.tell(subject, "dropped", "killed")
        elif status == "rejected" and feedback.reason == "no_provider":
            self.tell(subject, "dead_lettered", "no_provider")
        elif status == "rejected":
            self.tell(subject, "dropped", "rejected")

    def plan_retry(self, feedback: Feedback, subject: str) -> None:
        delivery = feedback.delivery
        category = self.policy.categories.get(delivery.category)
        rule = category.retry if category else Category(delivery.category).retry
        if why := self.withdrawn_meanwhile(delivery):
            return self.tell(subject, "cancelled", why)
        if delivery.attempt >= rule.attempts_max:
            return self.tell(subject, "dead_lettered", "attempts_exhausted")
        latest = self.now + min(rule.delay_ms_max, rule.delay_ms * 2 ** (delivery.attempt - 1))
        asked = feedback.at_ms + (feedback.retry_after_ms or 0)
        due = self.due_of_retry(subject, delivery.channel, delivery.destination_id)
        if due is None:  # The core says that no attempt fits before the expiry.
            if max(latest, asked) < delivery.expires_at_ms:
                raise MismatchError(f"a retry of {subject} would fit before its expiry")
            return self.tell(subject, "expired", "expired")
        if not max(self.now, asked - 1) < due <= max(latest, asked):
            raise MismatchError(f"retry of {subject} at {due}: not within its limits")
        if due >= delivery.expires_at_ms:
            raise MismatchError(f"retry of {subject} at {due}: after its expiry")
        self.waiting.append(Again(delivery, subject, due))
        return self.tell(subject, "retrying", "retry_scheduled", due)

    def send_again(
        self, delivery: Delivery, subject: str, attempt: int, epoch: int, reason: str
    ) -> None:
        now = self.now
        if delivery.expires_at_ms <= now:
            return self.tell(subject, "expired", "expired")
        category = self.policy.categories.get(delivery.category)
        if category is None:
            return self.tell(subject, "dead_lettered", "unknown_category")
        known = [d for d in self.destinations if d.destination_id == delivery.destination_id]
        if refused := self.refused_again(delivery, category, known):
            return self.tell(subject, *refused)
        if delivery.priority != "critical":
            until, why = self.prefs.snooze_until_ms, "snoozed"
            is_soft = (
                category.quiet_action == "downgrade" and delivery.channel in category.downgrade_to
            )
            if until <= now:
                until, why = (None if is_soft else self.quiet_until(now)) or 0, "quiet_hours"
            if until > now:
                if why == "quiet_hours" and category.quiet_action == "drop":
                    return self.tell(subject, "dropped", why)
                if until >= delivery.expires_at_ms:
                    return self.tell(subject, "expired", "expired")
                kept = delivery_with(delivery, attempt - 1, epoch)
                self.waiting.append(Again(kept, subject, until, why))
                return self.tell(subject, "retrying", why, until)
        valid = self.valid_until(
            delivery.priority, category, delivery.channel, delivery.expires_at_ms
        )
        shown = tuple(item.event_id for item in delivery.items)
        self.leaves.append(
            Leaves(
                subject,
                delivery.channel,
                delivery.destination_id,
                known[0].address,
                delivery.step,
                attempt,
                epoch,
                delivery.count,
                delivery.actors,
                shown,
                valid,
                delivery.expires_at_ms,
                delivery.priority,
            )
        )
        return self.tell(subject, "delivering", reason)

    def refused_again(
        self, delivery: Delivery, category: Category, known: list[Destination]
    ) -> tuple[str, str] | None:
        """(verdict, reason) of what stands against another attempt."""
        if why := self.withdrawn_meanwhile(delivery):
            return "cancelled", why
        kind = f"kind:{delivery.kind}" in self.policy.kills
        if kind or self.killed(delivery.category, delivery.campaign):
            return "dropped", "killed"
        for scope in ("all", f"category:{delivery.category}"):
            if ban := self.banned(scope):
                return "suppressed", ban.reason
        if not known or known[0].kind != delivery.kind:
            return "suppressed", "no_destination"
        if why := self.obstacle(known[0]):
            return "suppressed", why
        if not self.wants(category, delivery.channel):
            return "suppressed", "opted_out"
        if category.mandatory or delivery.priority == "critical":
            return None
        names = {f"key:{name}" for name in (delivery.digest_key, delivery.collapse_key) if name}
        rule = self.rule_of(category)
        if rule is not None and delivery.event_id is not None:
            thing = Thing(
                "", delivery.event_id, category.name, "normal", 0, 0, delivery.actor_id,
                delivery.collapse_key, data=delivery.data,
            )  # fmt: skip
            names.add(f"key:{self.key_of(thing, rule)}")
            names.discard("key:")
        if delivery.actor_id:
            names.add(f"actor:{delivery.actor_id}")
        actors = {f"actor:{item.actor_id}" for item in delivery.items}
        if names & set(self.prefs.muted) or (actors and actors <= set(self.prefs.muted)):
            return "suppressed", "muted"
        return None

    def unregister(self, feedback: Feedback, subject: str) -> None:
        delivery = feedback.delivery
        for d in self.destinations:
            if (
                (d.destination_id, d.kind) == (delivery.destination_id, delivery.kind)
                and d.address == delivery.address
                and d.registered_at_ms <= feedback.at_ms
            ):
                self.destinations = [one for one in self.destinations if one is not d]
                self.tell("*", "noted", "destination_removed")
                break
        category = self.policy.categories.get(delivery.category)
        if category is not None and category.route == "first":
            slot = f"{delivery.notification_id}/{delivery.channel}"
            if not self.addresses(delivery.channel) and slot not in self.answered:
                self.remember_answer(slot, (0, 0), delivery.expires_at_ms)
                thing = self.thing_of(delivery, subject)
                return self.settle(thing, without=delivery.channel, charged=True, reason="fallback")
        self.tell(subject, "suppressed", "unregistered")
        if category is not None and category.route == "escalate":
            for item in self.waiting:
                if isinstance(item, Next) and item.thing.subject == subject:
                    self.waiting.remove(item)
                    return self.settle(
                        item.thing, item.step, item.handed, charged=True, reason="fallback"
                    )
        return None

    def thing_of(self, delivery: Delivery, subject: str) -> Thing:
        """What a delivery told; of a digest only what it showed is known any more."""
        thing = Thing(
            subject, delivery.event_id, delivery.category, delivery.priority,
            delivery.appended_at_ms, delivery.expires_at_ms, delivery.actor_id,
            delivery.collapse_key, delivery.campaign, delivery.digest_key, delivery.data,
        )  # fmt: skip
        if delivery.event_id is not None:
            return thing
        return ClosedThing(
            **vars(thing),
            told_count=delivery.count,
            told_actors=delivery.actors,
            told_shown=tuple(item.event_id for item in delivery.items),
            told_by=frozenset(f"actor:{item.actor_id}" for item in delivery.items),
        )
