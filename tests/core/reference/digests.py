"""Digests that keep all of their events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from streams.core.model import (
    Preferences,
)
from streams.core.policy import Category, DigestRule
from tests.core.reference.choices import Choices
from tests.core.reference.nouns import (
    HOUR,
    RANK,
    ClosedThing,
    Gathering,
    Member,
    Thing,
)


class Digests(Choices):
    """See the module's text."""

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
