"""Applies the rate limits to the channels on offer: asks all of them, then charges all of them."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import rate_limit
from streams.core.policy import Category
from streams.core.terms import Course, Offer, Plan, Refusal, Scope
from streams.core.turn import Turn


def allowed(
    turn: Turn, category: Category, usable: list[Offer], critical: bool, course: Course
) -> tuple[list[Offer], list[Scope], Refusal | None]:
    """(offers to use, limits to charge, refusal when there is nothing to use).

    ``first`` and ``escalate`` use the first channel with room, ``all`` every channel with room.
    A notification that falls back to another channel was charged to its recipient already.
    """
    one = category.route != "all"
    everywhere, in_category = turn.policy.limits, category.limits
    if not everywhere and not in_category:
        return (usable[:1] if one else usable), [], None
    plan = rate_limit.plan_of(everywhere, in_category, category.name)
    charged = [] if course.charged else list(plan.notification)
    refusal = None if critical else rate_limit.check(turn.activity, charged, turn.now_ms)
    if refusal is not None:
        return [], [], refusal
    chosen: list[Offer] = []
    soonest: Refusal | None = None
    for offer in usable:
        refusal, fitting, scopes = _fit(turn, plan, offer, critical)
        if fitting is None:
            if soonest is None or (refusal and refusal.free_at_ms < soonest.free_at_ms):
                soonest = refusal
            continue
        chosen.append(fitting)
        charged += scopes
        if one:
            break
    return (chosen, charged, None) if chosen else ([], [], soonest)


def charge(turn: Turn, charged: list[Scope]) -> None:
    """Uses one send of every limit."""
    if charged:
        scopes_max = turn.policy.bounds.limit_scopes_max
        turn.activity = rate_limit.consume(turn.activity, charged, turn.now_ms, scopes_max)


def _fit(
    turn: Turn, plan: Plan, offer: Offer, critical: bool
) -> tuple[Refusal | None, Offer | None, list[Scope]]:
    """The offer with the destinations that have room, and what they charge; or the refusal."""
    now_ms, channel = turn.now_ms, offer.channel
    scopes = list(plan.channels.get(channel, ()))
    refusal = None if critical or not scopes else rate_limit.check(turn.activity, scopes, now_ms)
    if refusal is not None:
        return refusal, None, []
    per_address = plan.destinations.get(channel)
    if per_address is None:
        return None, offer, scopes
    fitting = []
    for destination in offer.destinations:
        of_it = rate_limit.for_destination(per_address, destination.destination_id)
        full = None if critical else rate_limit.check(turn.activity, of_it, now_ms)
        if full is None:
            fitting.append(destination)
            scopes += of_it
        elif refusal is None or full.free_at_ms < refusal.free_at_ms:
            refusal = full
    if not fitting:
        return refusal, None, []
    return None, replace(offer, destinations=tuple(fitting)), scopes
