"""Suppression: what law or history forbids. Above every preference, critical included.

A scope is ``all``, ``category:C``, ``channel:C`` or ``destination:ID``; some end by themselves.
"""

from __future__ import annotations

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
    """Suppressions with ``new`` in place of any of its scope that ends sooner.

    At the bound the temporary one that ends first makes way: a permanent one is the law.
    """
    kept = [s for s in profile.suppressions if s.scope != new.scope and active(s, now_ms)]
    same = of_scope(profile, new.scope, now_ms)
    if same and (same.until_ms is None or (new.until_ms and same.until_ms >= new.until_ms)):
        new = same
    if len(kept) >= count_max:
        temporary = [s for s in kept if s.until_ms is not None]
        if temporary:
            kept.remove(min(temporary, key=lambda s: s.until_ms or 0))
    return (*kept, new)


def lift(profile: Profile, scope: str) -> tuple[Suppression, ...]:
    """Suppressions without those of ``scope``."""
    return tuple(s for s in profile.suppressions if s.scope != scope)
