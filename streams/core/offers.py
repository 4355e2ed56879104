"""Which channels and addresses can be used: rules 4 and 5 for each, in the recipient's order.

``why_none`` says what closes each of them when none is left, because "why not" is asked more often
than "why".
"""

from __future__ import annotations

from streams.core import preferences, suppression
from streams.core.model import CHANNEL_OF_KIND, Destination, Profile, Verdict
from streams.core.policy import Category, Policy
from streams.core.terms import Course, Offer
from streams.core.turn import Turn


def usable_now(turn: Turn, category: Category, course: Course) -> list[Offer]:
    """Usable channels in the recipient's order."""
    profile, policy, channel_of = turn.profile, turn.policy, CHANNEL_OF_KIND
    choices, destinations = profile.preferences, profile.destinations
    restricted = bool(profile.suppressions or policy.kills)
    reached: list[str] = [channel_of[destination.kind] for destination in destinations]
    usable: list[Offer] = []
    first_step, without = course.step, course.without
    for step, channel in enumerate(preferences.channel_order(category, choices)):
        if channel not in reached or step < first_step or channel == without:
            continue
        wanted, cell = preferences.wants(category, channel, choices)
        if not wanted:
            continue
        if restricted:
            found = open_destinations(profile, channel, policy, turn.now_ms)
        else:
            found = tuple([d for at, d in enumerate(destinations) if reached[at] == channel])
        if found:
            usable.append(Offer(channel, step, found, cell))
    return usable


def open_destinations(
    profile: Profile, channel: str, policy: Policy, now_ms: int
) -> tuple[Destination, ...]:
    """The addresses of a channel that nothing forbids."""
    found = tuple([d for d in profile.destinations if CHANNEL_OF_KIND[d.kind] == channel])
    if not profile.suppressions and not policy.kills:
        return found
    return tuple(d for d in found if _obstacle(profile, d, channel, policy, now_ms) is None)


def why_none(turn: Turn, category: Category, course: Course) -> tuple[Verdict, str, dict[str, str]]:
    """(verdict, reason, inputs) of a notification that no channel can take.

    What an operator, the law or the recipient said outranks the lack of an address.
    """
    closed: dict[str, tuple[str, str]] = {}
    inputs: dict[str, str] = {}
    first_step, without = course.step, course.without
    for step, channel in enumerate(preferences.channel_order(category, turn.profile.preferences)):
        if step >= first_step and channel != without:
            why, detail = closed[channel] = _why_closed(turn, category, channel)
            inputs[channel] = f"{why} ({detail})"
    for reason, detail in closed.values():
        if reason not in ("opted_out", "no_destination"):
            name = "switch" if reason == "killed" else "scope"
            return "dropped" if reason == "killed" else "suppressed", reason, {
                **inputs, name: detail,
            }  # fmt: skip
    for reason, detail in closed.values():
        if reason == "opted_out":
            return "suppressed", reason, {**inputs, "cell": detail}
    return "suppressed", "no_destination", {**inputs, "channels": ", ".join(closed)}


def _why_closed(turn: Turn, category: Category, channel: str) -> tuple[str, str]:
    """(reason, detail) of one closed channel."""
    profile = turn.profile
    restricted = profile.suppressions or turn.policy.kills
    if restricted and not open_destinations(profile, channel, turn.policy, turn.now_ms):
        for destination in profile.destinations:
            if CHANNEL_OF_KIND[destination.kind] == channel:
                found = _obstacle(profile, destination, channel, turn.policy, turn.now_ms)
                if found is not None:
                    return found
    wanted, cell = preferences.wants(category, channel, profile.preferences)
    return ("no_destination", channel) if wanted else ("opted_out", cell)


def _obstacle(
    profile: Profile, destination: Destination, channel: str, policy: Policy, now_ms: int
) -> tuple[str, str] | None:
    """(reason, detail) of what forbids an address, or ``None``."""
    if f"kind:{destination.kind}" in policy.kills:
        return "killed", f"kind:{destination.kind}"
    forbidden = suppression.of_destination(profile, destination, channel, now_ms)
    return None if forbidden is None else (forbidden.reason, forbidden.scope)
