"""Rate limits: exact rolling windows. No window of any alignment has more than N sends.

The times of the latest N sends of each scope are kept, N being the largest limit of that scope.
A send at t is allowed when the N-th latest send is at least a window old. First every limit is
asked, then all are charged: a refused send uses nothing up. Critical sends are charged but never
refused, so a burst of alerts leaves less room for the rest.

Scopes: ``recipient`` and ``category`` count notifications; ``channel`` counts notifications on a
channel; ``destination`` counts messages to one address. A limit declared in a category counts
that category alone.
"""

from __future__ import annotations

import msgspec

from streams.core.model import Activity
from streams.core.policy import Category, LimitRule, Policy


class Refusal(msgspec.Struct, frozen=True):
    """Which limit is used up, and when its next slot is free."""

    rule: LimitRule
    free_at_ms: int

    @property
    def label(self) -> str:
        """The limit for people: ``3 per 3600 s per recipient``."""
        rule = self.rule
        return f"{rule.count_max} per {rule.window_ms // 1000} s per {rule.scope}"


def scope_key(rule: LimitRule, category: str, within: str, name: str) -> str:
    """Key of a scope's send times. ``within`` is the declaring category or empty."""
    if rule.scope == "category":
        return f"{within}|category:{category}"
    return f"{within}|{rule.scope}:{name}" if name else f"{within}|{rule.scope}"


def free_at(times: tuple[int, ...], rule: LimitRule, now_ms: int) -> int | None:
    """When the next send fits; ``None`` when one fits now."""
    if rule.count_max <= 0:
        return now_ms + rule.window_ms
    if len(times) < rule.count_max:
        return None
    at = times[-rule.count_max] + rule.window_ms
    return at if at > now_ms else None


Scope = tuple[str, LimitRule]


def scopes(
    policy: Policy, category: Category, kind: str, name: str = "", channel: str = ""
) -> list[Scope]:
    """(key, rule) of every limit of one kind of scope that is about this send.

    ``name`` is the channel or the destination; empty for recipient and category.
    """
    found = []
    for rules, within in ((policy.limits, ""), (category.limits, category.name)):
        for rule in rules:
            about = rule.name in ("", category.name, name, channel)
            if rule.scope == kind and about:
                found.append((scope_key(rule, category.name, within, name), rule))
    return found


def check(activity: Activity, wanted: list[Scope], now_ms: int) -> Refusal | None:
    """The refusal that lasts longest among all limits asked, or ``None``."""
    worst: Refusal | None = None
    for key, rule in wanted:
        at = free_at(activity.sent.get(key, ()), rule, now_ms)
        if at is not None and (worst is None or at > worst.free_at_ms):
            worst = Refusal(rule, at)
    return worst


def consume(activity: Activity, charged: list[Scope], now_ms: int) -> Activity:
    """Activity with one send charged to each key; each key keeps its largest limit's times."""
    if not charged:
        return activity
    sizes: dict[str, int] = {}
    oldest: dict[str, int] = {}
    for key, rule in charged:
        sizes[key] = max(sizes.get(key, 1), rule.count_max)
        oldest[key] = min(oldest.get(key, now_ms), now_ms - rule.window_ms)
    sent = {k: t for k, t in activity.sent.items() if k not in sizes}
    for key, size in sizes.items():
        kept = tuple(t for t in activity.sent.get(key, ()) if t > oldest[key])
        sent[key] = (*kept, now_ms)[-size:]
    return Activity(version=activity.version, seen=activity.seen, sent=sent)
