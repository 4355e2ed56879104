"""Rate limits: exact rolling windows. No window of any alignment has more than N sends.

The times of the latest N sends of each scope are kept, N being the largest limit of that scope.
A send at t is allowed when the N-th latest send is at least a window old. First every limit is
asked, then all are charged: a refused send uses nothing up. Critical sends are charged but never
refused, so a burst of alerts leaves less room for the rest.

Scopes: ``recipient`` and ``category`` count notifications; ``channel`` counts notifications on a
channel; ``destination`` counts messages to one address. A limit declared in a category counts
that category alone; a named one counts what has that name alone. Which limits are about a
category is worked out once, as a ``Plan``.
"""

from __future__ import annotations

from bisect import insort
from functools import lru_cache

from streams.core.model import CHANNEL_OF_KIND, Activity
from streams.core.policy import LimitRule
from streams.core.terms import Plan, Refusal, Scope

CHANNELS = frozenset(CHANNEL_OF_KIND.values())


@lru_cache(maxsize=4_096)
def plan_of(
    everywhere: tuple[LimitRule, ...], in_category: tuple[LimitRule, ...], category: str
) -> Plan:
    """The plan of a category: the limits on everything, and its own."""
    notification: list[Scope] = []
    channels: dict[str, list[Scope]] = {channel: [] for channel in CHANNELS}
    destinations: dict[str, list[Scope]] = {channel: [] for channel in CHANNELS}
    for rules, within in ((everywhere, ""), (in_category, category)):
        for rule in rules:
            by_channel = rule.name in CHANNELS and rule.scope != "category"
            if not by_channel and rule.name not in ("", category):
                continue
            about = (rule.name,) if by_channel else CHANNELS
            if rule.scope == "destination":
                key = f"{within}|{'' if by_channel else rule.name}"
                for channel in about:
                    destinations[channel].append((key, rule))
            elif rule.scope == "channel":
                named = "" if by_channel or not rule.name else f"|{rule.name}"
                for channel in about:
                    channels[channel].append((f"{within}|channel:{channel}{named}", rule))
            elif by_channel:
                channels[rule.name].append((f"{within}|recipient|{rule.name}", rule))
            elif rule.scope == "category":
                notification.append((f"{within}|category:{category}", rule))
            else:
                named = f"|{rule.name}" if rule.name else ""
                notification.append((f"{within}|recipient{named}", rule))
    return Plan(
        tuple(notification),
        {channel: tuple(scopes) for channel, scopes in channels.items() if scopes},
        {channel: tuple(scopes) for channel, scopes in destinations.items() if scopes},
    )


def for_destination(scopes: tuple[Scope, ...], destination_id: str) -> list[Scope]:
    """A channel's per-address limits, keyed for one address."""
    return [(f"{key}|destination:{destination_id}", rule) for key, rule in scopes]


def free_at(times: tuple[int, ...], rule: LimitRule, now_ms: int) -> int | None:
    """When the next send fits; ``None`` when one fits now."""
    count_max: int = rule.count_max
    if count_max <= 0:
        return now_ms + rule.window_ms
    if len(times) < count_max:
        return None
    at = times[-count_max] + rule.window_ms
    return at if at > now_ms else None


def check(activity: Activity, wanted: list[Scope], now_ms: int) -> Refusal | None:
    """The refusal that lasts longest among all limits asked, or ``None``."""
    worst: Refusal | None = None
    sent = activity.sent
    for key, rule in wanted:
        times = sent.get(key)
        at = free_at(times if times is not None else (), rule, now_ms)
        if at is not None and (worst is None or at > worst.free_at_ms):
            worst = Refusal(rule, at)
    return worst


def consume(activity: Activity, charged: list[Scope], now_ms: int, scopes_max: int) -> Activity:
    """Activity with one send charged to each key; each key keeps its largest limit's times."""
    if not charged:
        return activity
    largest: dict[str, tuple[int, int]] = {}
    for key, rule in charged:
        size, window_ms = max(1, rule.count_max), max(0, rule.window_ms)
        before = largest.get(key)
        if before is not None:
            size, window_ms = max(size, before[0]), max(window_ms, before[1])
        largest[key] = (size, window_ms)
    sent = dict(activity.sent)
    for key, (size, window_ms) in largest.items():
        times = sent.pop(key, None)
        if times is None:
            sent[key] = (now_ms,)
        elif times and (times[0] <= now_ms - window_ms or times[-1] > now_ms):
            kept = [at for at in times if at > now_ms - window_ms]
            insort(kept, now_ms)  # An answer may be decided at the time of its delivery: earlier.
            sent[key] = tuple(kept[-size:])
        else:
            sent[key] = (*times, now_ms)[-size:]
    while len(sent) > scopes_max:
        del sent[min(sent, key=lambda name: (sent[name][-1], name))]
    return Activity(activity.version, activity.seen, sent)
