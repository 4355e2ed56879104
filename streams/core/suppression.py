"""Suppression: what law or history forbids. Above every preference, critical included.

A scope is ``all``, ``category:C``, ``channel:C`` or ``destination:ID``; some end by themselves.
"""

from __future__ import annotations

import math

from streams.core.model import Destination, Profile, Suppression


def active(suppression: Suppression, now_ms: int) -> bool:
    """True until it ends."""
    return suppression.until_ms is None or now_ms < suppression.until_ms


def of_scope(profile: Profile, scope: str, now_ms: int) -> Suppression | None:
    """The active suppression of exactly this scope, if any."""
    for suppression in profile.suppressions:
        if suppression.scope == scope and active(suppression, now_ms):
            return suppression
    return None


def of_everything(profile: Profile, category: str, now_ms: int) -> Suppression | None:
    """A suppression that leaves no channel open for this category."""
    if not profile.suppressions:
        return None
    return of_scope(profile, "all", now_ms) or of_scope(profile, f"category:{category}", now_ms)


def of_destination(
    profile: Profile, destination: Destination, channel: str, now_ms: int
) -> Suppression | None:
    """A suppression of this address or of its whole channel."""
    if not profile.suppressions:
        return None
    by_channel = of_scope(profile, f"channel:{channel}", now_ms)
    return by_channel or of_scope(profile, f"destination:{destination.destination_id}", now_ms)


def add(profile: Profile, new: Suppression, now_ms: int, count_max: int) -> tuple[Suppression, ...]:
    """Suppressions with ``new``; the same tuple when it says nothing new.

    At the bound what ends by itself makes way, then what is about addresses that are gone. When
    still too many are left they become one of everything: the law is never forgotten.
    """
    same = next((s for s in profile.suppressions if _same(s, new) and active(s, now_ms)), None)
    if same is not None and (same.until_ms is None or _ends(new) <= _ends(same)):
        return profile.suppressions
    kept = [s for s in profile.suppressions if active(s, now_ms) and not _same(s, new)]
    if len(kept) >= count_max:
        known = {f"destination:{d.destination_id}" for d in profile.destinations}
        kept = [
            s
            for s in kept
            if s.until_ms is None and (s.scope in known or not s.scope.startswith("destination:"))
        ]
    if len(kept) >= count_max:
        return (Suppression("all", new.reason, new.at_ms),)
    return (*kept, new)


def lift(
    profile: Profile, scope: str, reasons: tuple[str, ...], before_ms: int
) -> tuple[Suppression, ...]:
    """Suppressions without those of ``scope`` for ``reasons`` made before ``before_ms``."""
    left = tuple(
        s
        for s in profile.suppressions
        if s.scope != scope or s.reason not in reasons or s.at_ms >= before_ms
    )
    return profile.suppressions if len(left) == len(profile.suppressions) else left


def _same(one: Suppression, other: Suppression) -> bool:
    return one.scope == other.scope and one.reason == other.reason


def _ends(suppression: Suppression) -> float:
    return math.inf if suppression.until_ms is None else suppression.until_ms
