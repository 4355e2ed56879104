"""Forgetting a recipient: what waits ends, and nothing about them is kept.

The core ends what is open, so that every accepted event still has its verdict; whoever keeps the
state then keeps none of it, and a mark in its place (``agents/forgetting.py``). Until the mark
ends, whatever comes is decided over ``state_of_forgotten``: the law forbids all of it.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core.model import Erasure, Profile, RecipientState, Suppression
from streams.core.state_codec import EMPTY_ACTIVITY, EMPTY_WAITING
from streams.core.turn import Turn


def on_erasure(turn: Turn, erasure: Erasure) -> None:
    """Forbids everything from now on and makes all that waits due, so that it ends."""
    if erasure.lifted:
        return
    turn.profile = _forbidden(erasure.at_ms)
    turn.activity = EMPTY_ACTIVITY
    now_ms, waiting = turn.now_ms, turn.waiting
    turn.wait(
        held=tuple(replace(item, due_ms=now_ms) for item in waiting.held),
        digests=tuple(replace(item, closes_at_ms=now_ms) for item in waiting.digests),
        retries=tuple(replace(item, due_ms=now_ms) for item in waiting.retries),
        escalations=tuple(replace(item, due_ms=now_ms) for item in waiting.escalations),
    )


def state_of_forgotten(recipient_id: str, partition: int, at_ms: int) -> RecipientState:
    """What is known of somebody who was forgotten: only that."""
    return RecipientState(recipient_id, partition, _forbidden(at_ms), EMPTY_ACTIVITY, EMPTY_WAITING)


def _forbidden(at_ms: int) -> Profile:
    return Profile(suppressions=(Suppression("all", "forgotten", at_ms),))
