"""Events on their way in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from streams.core.model import (
    Event,
)
from streams.core.policy import Category
from tests.core.reference.nouns import (
    HOUR,
    RANK,
    Again,
    Thing,
)
from tests.core.reference.withdrawals import Withdrawals


class Events(Withdrawals):
    """See the module's text."""

    def accept(self, event: Event, appended_ms: int) -> None:
        subject, now = event.event_id, self.now
        since_hour = (now - self.policy.dedupe_horizon_ms) // HOUR
        for known, hour, content in self.accepted:
            if known == event.event_id and hour >= since_hour:
                verdict = "duplicate" if content == event else "conflict"
                return self.tell(subject, verdict, verdict)
        if self.still_waits(event.event_id):
            return self.tell(subject, "duplicate", "duplicate")
        category = self.policy.categories.get(event.category)
        if category is None:
            return self.tell(subject, "dead_lettered", "unknown_category")
        if not set(category.requires) <= set(event.data):
            return self.tell(subject, "dead_lettered", "missing_field")
        send_at = self.send_at(event)
        self.accepted.append((event.event_id, now // HOUR, event))
        expires = event.expires_at_ms
        if expires is None:
            expires = max(appended_ms, send_at or 0) + category.expires_after_ms
        priority = category.priority
        if event.priority is not None and RANK[event.priority] > RANK[priority]:
            priority = event.priority
        thing = Thing(
            subject, event.event_id, event.category, priority, appended_ms, expires,
            event.actor_id, event.collapse_key, event.campaign, None, event.data,
        )  # fmt: skip
        if self.is_withdrawn(event.event_id):
            return self.tell(subject, "cancelled", "cancelled_before_arrival")
        if why := self.outdated(event.category, event.collapse_key, appended_ms):
            return self.tell(subject, "cancelled", why)
        if expires <= now:
            return self.tell(subject, "expired", "expired")
        if event.supersedes is not None and event.supersedes != event.event_id:
            self.withdraw_event(event.supersedes, "superseded")
        if event.collapse_key is not None:
            self.withdraw(
                lambda t: t.collapse_key == event.collapse_key and t.category == event.category,
                lambda m, cat: m.collapse_key == event.collapse_key and cat == event.category,
                "collapsed",
            )
            slot = (event.category, event.collapse_key)
            self.newest[slot] = max(self.newest.get(slot, -1), appended_ms)
        if send_at is not None and send_at > now:
            return self.schedule(thing, event, category, send_at)
        return self.settle(thing)

    def still_waits(self, event_id: str) -> bool:
        """Whatever the horizon: an event that waits has been accepted."""
        for item in self.waiting:
            told = item.delivery if isinstance(item, Again) else item.thing
            if told.event_id == event_id:
                return True
            if isinstance(told, Thing) and event_id in {m.event_id for m in told.members}:
                return True
        return False

    def send_at(self, event: Event) -> int | None:
        if event.send_at_local is None:
            return event.send_at_ms
        text = event.send_at_local
        if "T" in text:
            return self.reach(datetime.fromisoformat(text))
        zone = ZoneInfo(self.prefs.zone)
        today = datetime.fromtimestamp(self.now / 1000, UTC).astimezone(zone).date()
        for ahead in range(-1, 3):
            day = today + timedelta(days=ahead)
            found = self.reach(datetime.fromisoformat(f"{day}T{text}"))
            if found > self.now:
                return found
        raise AssertionError("a day has every time of day")

    def schedule(self, thing: Thing, event: Event, category: Category, send_at: int) -> None:
        local, lifetime = "", 0
        if event.send_at_local is not None:
            local = event.send_at_local
            if "T" not in local:
                zone = ZoneInfo(self.prefs.zone)
                day = datetime.fromtimestamp(send_at / 1000, UTC).astimezone(zone).date()
                local = f"{day}T{local}"
            lifetime = 0 if event.expires_at_ms is not None else category.expires_after_ms
        self.hold(thing, send_at, "scheduled", local=local, lifetime=lifetime)
