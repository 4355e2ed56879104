"""The decision, a second time: naive, slow, and sharing nothing with the core but its nouns.

Written from the design's text alone. Everything is a list that is searched from the start; limits
count all sends there ever were; quiet hours ask a clock that is walked minute by minute; a digest
keeps all of its events. ``Reference.step`` takes the same input as ``decide`` and answers with
what must come out: ``Told`` for each entry, ``Leaves`` for each delivery. Subjects are named by
event id, digests by their order of opening.

Left to the core, and checked by the tests of that rule alone: identifiers, jitter (0 here), the
sizes of bounds, the wording of inputs. The moment of a retry is jittered by hash: the core's is
taken, once it is seen to lie within the limits that the retry rule sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from streams.core.model import (
    Cancellation,
    Delivery,
    Destination,
    DestinationInput,
    Event,
    EventInput,
    Feedback,
    Input,
    PreferenceInput,
    Preferences,
    Receipt,
)
from streams.core.policy import Category, DigestRule, LimitRule, Policy
from tests.core.reference_time import first_reach, quiet_minutes

MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR
CHANNEL = {"apns": "push", "fcm": "push", "webpush": "push", "sms": "sms", "email": "email"}
RANK = {"critical": 0, "normal": 1, "bulk": 2}
HORIZON_DAYS = 16
"""How far beyond its start a run can look."""


@dataclass(frozen=True)
class Told:
    """An entry: what is said of a subject."""

    subject: str
    verdict: str
    reason: str
    until_ms: int | None = None


@dataclass(frozen=True)
class Leaves:
    """A delivery that is handed over."""

    subject: str
    channel: str
    destination: str
    address: str
    step: int
    attempt: int
    epoch: int
    count: int
    actors: int
    shown: tuple[str, ...]
    valid_until_ms: int
    expires_at_ms: int
    priority: str


@dataclass
class Member:
    """An event inside a digest."""

    event_id: str
    actor: str
    expires_ms: int
    collapse_key: str | None
    data: dict[str, str]


@dataclass
class Thing:
    """Something to tell: an event, or a closed digest with its members."""

    subject: str
    event_id: str | None
    category: str
    priority: str
    appended_ms: int
    expires_ms: int
    actor: str = ""
    collapse_key: str | None = None
    campaign: str | None = None
    key: str | None = None
    data: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    shown: list[Member] = field(default_factory=list)

    @property
    def count(self) -> int:
        return 1 if self.event_id is not None else len(self.members)

    @property
    def actors(self) -> int:
        if self.event_id is not None:
            return 1 if self.actor else 0
        return len({member.actor for member in self.members if member.actor})

    @property
    def shown_ids(self) -> tuple[str, ...]:
        return tuple(member.event_id for member in self.shown)


@dataclass
class Hold:
    thing: Thing
    due_ms: int
    why: str
    step: int = 0
    handed: tuple[tuple[str, str, int], ...] = ()
    local: str = ""
    lifetime_ms: int = 0


@dataclass
class Gathering:
    """An open digest."""

    name: str
    thing: Thing
    opened_ms: int
    due_ms: int
    opened_by: str
    closing: str = "digest_due"


@dataclass
class Again:
    """A delivery that waits for its next attempt."""

    delivery: Delivery
    subject: str
    due_ms: int
    waits_for: str = ""


@dataclass
class Next:
    """A planned step of an escalation."""

    thing: Thing
    step: int
    due_ms: int
    handed: tuple[tuple[str, str, int], ...]


@dataclass
class Ban:
    """A suppression."""

    scope: str
    reason: str
    at_ms: int
    until_ms: int | None = None


@dataclass(frozen=True)
class Charge:
    """A send, as limits count it."""

    at_ms: int
    category: str
    told: bool
    """Counts as a notification (a fallback was counted before)."""
    channels: frozenset[str]
    destinations: tuple[str, ...]


KINDS = (Hold, Gathering, Again, Next)


class MismatchError(AssertionError):
    """The core's own choice is outside what the rule allows."""


class Reference:
    """The naive recipient."""

    def __init__(self, policy: Policy, start_ms: int) -> None:
        self.policy = policy
        self.start_minute = start_ms // MINUTE
        self.prefs = Preferences()
        self.destinations: list[Destination] = []
        self.bans: list[Ban] = []
        self.accepted: list[tuple[str, int, Event]] = []
        self.charges: list[Charge] = []
        self.waiting: list[Hold | Gathering | Again | Next] = []
        self.lookbacks: dict[tuple[str, str], int] = {}
        self.withdrawn: dict[str, int] = {}
        """Event id -> until when its withdrawal is remembered."""
        self.newest: dict[tuple[str, str], int] = {}
        self.answered: dict[str, tuple[tuple[int, int], int]] = {}
        """Delivery (or notification and channel) -> (epoch and attempt, forget at)."""
        self.digests = 0
        self.now = start_ms
        self.told: list[Told] = []
        self.leaves: list[Leaves] = []
        self.subject_of: Callable[[Delivery], str] = lambda delivery: delivery.event_id or ""
        self.due_of_retry: Callable[[str, str, str], int | None] = lambda *_: None
        """(subject, channel, destination) -> when the core will retry."""

    # -------------------------------------------------------------------------------------- steps

    def step(self, entered: Input, now_ms: int) -> tuple[list[Told], list[Leaves]]:
        """What must come out of this input at this time."""
        self.now, self.told, self.leaves = now_ms, [], []
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
        self.release()
        return self.told, self.leaves

    def tell(self, subject: str, verdict: str, reason: str, until_ms: int | None = None) -> None:
        self.told.append(Told(subject, verdict, reason, until_ms))

    @property
    def next_due_ms(self) -> int | None:
        return min((item.due_ms for item in self.waiting), default=None)

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

    # -------------------------------------------------------------------------------------- events

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

    def reach(self, wall: datetime) -> int:
        """When the recipient's clock first shows this time."""
        found = first_reach(
            self.prefs.zone, wall, self.start_minute - 3 * 1440, HORIZON_DAYS * 1440
        )
        assert found is not None, "the run looks further ahead than the reference can"
        return found

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

    # -------------------------------------------------------------------------------------- rules

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

    def killed(self, category: str, campaign: str | None) -> bool:
        return bool(
            {"all", f"category:{category}", f"campaign:{campaign}"} & set(self.policy.kills)
        )

    def banned(self, scope: str) -> Ban | None:
        for ban in self.bans:
            if ban.scope == scope and (ban.until_ms is None or ban.until_ms > self.now):
                return ban
        return None

    def obstacle(self, destination: Destination) -> str | None:
        if f"kind:{destination.kind}" in self.policy.kills:
            return "killed"
        channel = CHANNEL[destination.kind]
        ban = self.banned(f"channel:{channel}") or self.banned(
            f"destination:{destination.destination_id}"
        )
        return ban.reason if ban else None

    def addresses(self, channel: str) -> list[Destination]:
        return [d for d in self.destinations if CHANNEL[d.kind] == channel and not self.obstacle(d)]

    def wants(self, category: Category, channel: str) -> bool:
        prefs = self.prefs
        if category.mandatory:
            return True
        for choice in (
            prefs.cells.get(f"{category.name}/{channel}"),
            prefs.channels.get(channel),
            prefs.categories.get(category.name),
            prefs.default,
        ):
            if choice is not None:
                return choice
        return category.default_on and channel not in category.default_off_channels

    def why_none(self, category: Category, channels: list[str]) -> tuple[str, str]:
        reasons = []
        for channel in channels:
            found = [self.obstacle(d) for d in self.destinations if CHANNEL[d.kind] == channel]
            stopped = [why for why in found if why]
            if stopped and None not in found:
                reasons.append(stopped[0])
            else:
                reasons.append("opted_out" if not self.wants(category, channel) else "no_address")
        for why in reasons:
            if why not in ("opted_out", "no_address"):
                return ("dropped" if why == "killed" else "suppressed"), why
        return "suppressed", "opted_out" if "opted_out" in reasons else "no_destination"

    def order_of(self, category: Category) -> list[str]:
        wished = [
            channel
            for channel in self.prefs.channel_order.get(category.name, ())
            if channel in category.channels
        ]
        order: list[str] = []
        for channel in [*wished, *category.channels]:
            if channel not in order:
                order.append(channel)
        return order

    def is_muted(self, thing: Thing, category: Category) -> bool:
        rule = self.rule_of(category)
        key = self.key_of(thing, rule) if rule is not None else thing.key
        names = {f"key:{name}" for name in (key, thing.collapse_key) if name}
        if thing.event_id is not None and thing.actor:
            names.add(f"actor:{thing.actor}")
        if (
            isinstance(thing, ClosedThing)
            and thing.told_by
            and thing.told_by <= set(self.prefs.muted)
        ):
            return True
        return bool(names & set(self.prefs.muted))

    def still_wanted(self, thing: Thing, category: Category) -> Thing:
        muted = () if category.mandatory else self.prefs.muted

        def stays(member: Member) -> bool:
            silenced = bool(member.actor) and f"actor:{member.actor}" in muted
            return member.expires_ms > self.now and not silenced

        return replace(
            thing,
            members=[member for member in thing.members if stays(member)],
            shown=[member for member in thing.shown if stays(member)],
        )

    # ---------------------------------------------------------------------------------- quiet hours

    def quiet_set(self) -> frozenset[int]:
        if not self.prefs.quiet_hours:
            return frozenset()
        from_minute = self.start_minute - 1440
        minutes = HORIZON_DAYS * 1440
        return quiet_minutes(self.prefs.zone, self.prefs.quiet_hours, from_minute, minutes)

    def quiet_until(self, now_ms: int) -> int | None:
        quiet = self.quiet_set()
        minute = now_ms // MINUTE
        if minute not in quiet:
            return None
        while minute in quiet:
            minute += 1
        return minute * MINUTE

    # -------------------------------------------------------------------------------------- digests

    def rule_of(self, category: Category, prefs: Preferences | None = None) -> DigestRule | None:
        choice = (prefs or self.prefs).digests.get(category.name)
        base = category.digest or DigestRule("window")
        if choice is None:
            return category.digest
        if choice == "immediate":
            return None
        fields = {name: getattr(base, name) for name in base.__struct_fields__}
        if choice == "hourly":
            return DigestRule(**{**fields, "mode": "window", "window_ms": HOUR})
        return DigestRule(**{**fields, "mode": "calendar", "times": (choice[6:],)})

    def key_of(self, thing: Thing, rule: DigestRule) -> str:
        if thing.key is not None:
            return thing.key
        parts = []
        for name in rule.key:
            if name == "actor_id":
                parts.append(thing.actor)
            elif name == "collapse_key":
                parts.append(thing.collapse_key or "")
            else:
                parts.append(thing.data.get(name.removeprefix("data."), ""))
        return "/".join(parts)

    def open_for(self, thing: Thing, key: str) -> Gathering | None:
        for item in self.waiting:
            if (
                isinstance(item, Gathering)
                and item.thing.category == thing.category
                and item.thing.key == key
                and item.thing.campaign == thing.campaign
            ):
                return item
        return None

    def absorb(self, thing: Thing, category: Category) -> bool:
        rule = self.rule_of(category)
        if rule is None:
            return False
        key = self.key_of(thing, rule)
        opened = self.open_for(thing, key)
        if rule.mode == "lookback" and opened is None:
            last = self.lookbacks.get((thing.category, key))
            if last is None or self.now - last >= rule.window_ms:
                return False
            return self.gather(thing, rule, last + rule.window_ms, "")
        if opened is not None and rule.mode != "debounce":
            return self.gather(thing, rule, opened.due_ms, "")
        return self.gather(thing, rule, self.closes(rule, opened, self.now), "")

    def closes(self, rule: DigestRule, opened: Gathering | None, since_ms: int) -> int:
        opened_ms = opened.opened_ms if opened else self.now
        if rule.mode == "debounce":
            return min(self.now + rule.window_ms, opened_ms + rule.age_ms_max)
        if rule.mode == "calendar":
            return self.next_local(rule.times or ("09:00",), since_ms)
        return opened_ms + rule.window_ms

    def next_local(self, times: tuple[str, ...], since_ms: int) -> int:
        zone = ZoneInfo(self.prefs.zone)
        today = datetime.fromtimestamp(since_ms / 1000, UTC).astimezone(zone).date()
        found = [
            self.reach(datetime.fromisoformat(f"{today + timedelta(days=ahead)}T{text}"))
            for ahead in range(-1, 3)
            for text in times
        ]
        return min(ms for ms in found if ms > since_ms)

    def gather(self, thing: Thing, rule: DigestRule, closes_ms: int, by: str) -> bool:
        key = self.key_of(thing, rule)
        opened = self.open_for(thing, key)
        closes_ms = max(closes_ms, self.now + 1)
        if opened is not None:
            ends = [member.expires_ms for member in opened.thing.members]
            if ends:
                closes_ms = min(closes_ms, *(end - 1 for end in ends))
            closes_ms = max(closes_ms, opened.due_ms)
        if thing.expires_ms <= closes_ms:
            return False
        if opened is None:
            name = f"digest-{self.digests}"
            self.digests += 1
            body = Thing(
                name, None, thing.category, thing.priority, thing.appended_ms, thing.expires_ms,
                campaign=thing.campaign, key=key,
            )  # fmt: skip
            opened = Gathering(name, body, self.now, closes_ms, by)
            self.waiting.append(opened)
        body = opened.thing
        assert thing.event_id is not None
        member = Member(
            thing.event_id, thing.actor, thing.expires_ms, thing.collapse_key, thing.data
        )
        body.members.append(member)
        body.shown = self.keep([*body.shown, member], rule)
        body.expires_ms = max(body.expires_ms, thing.expires_ms)
        body.appended_ms = min(body.appended_ms, thing.appended_ms)
        if RANK[thing.priority] < RANK[body.priority]:
            body.priority = thing.priority
        opened.due_ms = closes_ms
        if len(body.members) >= rule.items_max:
            opened.due_ms, opened.closing = self.now, "digest_full"
        self.tell(thing.subject, "digested", "digested", opened.due_ms)
        return True

    def keep(self, shown: list[Member], rule: DigestRule) -> list[Member]:
        most = rule.items_kept_max
        if rule.keep == "first":
            return shown[:most]
        if rule.keep == "last":
            return shown[-most:]

        def number(member: Member) -> float:
            try:
                return float(member.data.get(rule.top_by.removeprefix("data."), ""))
            except ValueError:
                return float("-inf")

        while len(shown) > most:
            least = min(number(member) for member in shown)
            last_of_least = max(i for i, m in enumerate(shown) if number(m) == least)
            shown = shown[:last_of_least] + shown[last_of_least + 1 :]
        return shown

    # --------------------------------------------------------------------------------------- limits

    def rules_about(self, category: Category) -> list[tuple[LimitRule, str]]:
        """(rule, category that declares it or empty) of every limit that is about a category."""
        found = []
        for rules, within in ((self.policy.limits, ""), (category.limits, category.name)):
            for rule in rules:
                channel_named = rule.name in set(CHANNEL.values()) and rule.scope != "category"
                if channel_named or rule.name in ("", category.name):
                    found.append((rule, within))
        return found

    def counted(
        self, rule: LimitRule, within: str, category: str, channel: str, destination: str
    ) -> list[int]:
        """Times of all sends that a limit counts, as seen from a send."""
        by_channel = rule.name in set(CHANNEL.values()) and rule.scope != "category"
        times = []
        for charge in self.charges:
            if within and charge.category != within:
                continue
            if rule.name and not by_channel and charge.category != rule.name:
                continue
            if by_channel and rule.name not in charge.channels:
                continue
            if rule.scope == "destination":
                hits = charge.destinations.count(destination)
            elif rule.scope == "channel":
                hits = int(channel in charge.channels)
            elif rule.scope == "category":
                hits = int(charge.told and charge.category == category)
            else:
                hits = int(by_channel or charge.told)
            times += [charge.at_ms] * hits
        return times

    def free_ms(self, rule: LimitRule, times: list[int]) -> int | None:
        """When one more fits; ``None``: now."""

        def fits(at_ms: int) -> bool:
            return sum(at_ms - rule.window_ms < one <= at_ms for one in times) < rule.count_max

        if fits(self.now):
            return None
        moments = [one + rule.window_ms for one in times]
        return min(moment for moment in moments if moment > self.now and fits(moment))

    def refusal_of(
        self, rules: list[tuple[LimitRule, str]], category: str, channel: str, destination: str
    ) -> tuple[LimitRule, int] | None:
        """The refusal that lasts longest (the first of equals)."""
        worst: tuple[LimitRule, int] | None = None
        for rule, within in rules:
            free = self.free_ms(rule, self.counted(rule, within, category, channel, destination))
            if free is not None and (worst is None or free > worst[1]):
                worst = rule, free
        return worst

    def with_room(
        self, category: Category, usable: list[str], charged: bool, critical: bool
    ) -> tuple[list[tuple[str, list[Destination]]], tuple[LimitRule, int] | None]:
        """(channels to use with their addresses, refusal when there is none)."""
        rules = self.rules_about(category)
        channels = set(CHANNEL.values())

        def named(rule: LimitRule) -> bool:
            return rule.name in channels and rule.scope != "category"

        told = [(r, w) for r, w in rules if r.scope in ("recipient", "category") and not named(r)]
        if not charged and not critical:
            refusal = self.refusal_of(told, category.name, "", "")
            if refusal:
                return [], refusal
        chosen: list[tuple[str, list[Destination]]] = []
        soonest: tuple[LimitRule, int] | None = None
        for channel in usable:
            here = [(r, w) for r, w in rules if not named(r) or r.name == channel]
            of_channel = [
                (r, w)
                for r, w in here
                if r.scope == "channel" or (named(r) and r.scope == "recipient")
            ]
            per_address = [(r, w) for r, w in here if r.scope == "destination"]
            refusal = None if critical else self.refusal_of(of_channel, category.name, channel, "")
            found: list[Destination] = []
            if refusal is None:
                for d in self.addresses(channel):
                    full = self.refusal_of(per_address, category.name, channel, d.destination_id)
                    if full is None or critical:
                        found.append(d)
                    elif refusal is None or full[1] < refusal[1]:
                        refusal = full
            if found:
                chosen.append((channel, found))
                if category.route != "all":
                    break
            elif refusal and (soonest is None or refusal[1] < soonest[1]):
                soonest = refusal
        return (chosen, None) if chosen else ([], soonest)

    # -------------------------------------------------------------------------------------- answers

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
        elif status == "rejected":
            self.tell(subject, "dropped", "rejected")

    def remember_answer(self, name: str, mark: tuple[int, int], expires_ms: int) -> None:
        """Each answer counts once, for as long as its delivery may live."""
        self.answered = {n: known for n, known in self.answered.items() if known[1] > self.now}
        self.answered[name] = (mark, max(expires_ms, self.now) + 1)

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

    # -------------------------------------------------------------------------------------- control

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

    # --------------------------------------------------------------------------------------- cancel

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

    # ------------------------------------------------------------------------ names, by the harness

    notification_id: Callable[[str], str]
    delivery_id: Callable[[str, str, str, int], str]


@dataclass
class ClosedThing(Thing):
    """A digest as its delivery tells it: its members are not known any more."""

    told_count: int = 0
    told_actors: int = 0
    told_shown: tuple[str, ...] = ()
    told_by: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        return self.told_count

    @property
    def actors(self) -> int:
        return self.told_actors

    @property
    def shown_ids(self) -> tuple[str, ...]:
        return self.told_shown


def delivery_with(delivery: Delivery, attempt: int, epoch: int) -> Delivery:
    """The delivery as another try."""
    fields = {name: getattr(delivery, name) for name in delivery.__struct_fields__}
    return Delivery(**{**fields, "attempt": attempt, "epoch": epoch})
