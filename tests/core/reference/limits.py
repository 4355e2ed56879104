"""Limits that count all sends there ever were."""

from __future__ import annotations

from streams.core.model import (
    Destination,
)
from streams.core.policy import Category, LimitRule
from tests.core.reference.digests import Digests
from tests.core.reference.nouns import (
    CHANNEL,
)


class Limits(Digests):
    """See the module's text."""

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
