"""Who was forgotten and came back, when both are read at once: what they said since is kept.

Topics are read one after the other, so their new choices and addresses are read before the erasure
and the lift that they came after: after a pause, and whenever everything is read again. Of the same
batch, what was appended after the lift is decided after it. Of earlier batches nobody knows when it
was appended: it counts as theirs if it is dated after the lift.

Invariants: nothing is spared of somebody whose last erasure in the batch is not a lift; nothing
dated in the future is spared; the order depends on the batch alone.
"""

from __future__ import annotations

import msgspec

from streams.core.model import (
    Cancellation,
    DestinationInput,
    Erasure,
    Input,
    PreferenceInput,
    Preferences,
    Profile,
    Receipt,
)
from streams.engine.api import Record

Entered = tuple[Record, Input, int]
"""Record, what it says, and the time at which to decide it (Unix ms)."""
SAID = (PreferenceInput, DestinationInput, Receipt, Cancellation)


class Return(msgspec.Struct):
    """That somebody came back in this batch, and what stays theirs."""

    at_ms: int
    has_chosen: bool
    """The batch has preferences from after the lift: they are the last in the compacted topic, and
    a tombstone written behind them would take them away."""
    kept: Profile = Profile()

    def spare(self, profile: Profile, now_ms: int) -> None:
        """Keeps what is dated after the lift of what is about to be forgotten."""

        def is_since(at_ms: int) -> bool:
            return self.at_ms < at_ms <= now_ms

        chosen = profile.preferences
        is_kept = is_since(chosen.updated_at_ms)
        self.kept = Profile(
            preferences=chosen if is_kept else Preferences(),
            destinations=tuple(d for d in profile.destinations if is_since(d.registered_at_ms)),
            suppressions=tuple(s for s in profile.suppressions if is_since(s.at_ms)),
        )
        self.has_chosen = self.has_chosen or is_kept


def put_in_order(entered: list[Entered]) -> Return | None:
    """Moves what a recipient said after their lift behind it; ``None`` if no lift is the last."""
    erasures = [at for at, (_, what, _) in enumerate(entered) if isinstance(what, Erasure)]
    if not erasures:
        return None
    last = erasures[-1]
    lift = entered[last][1]
    assert isinstance(lift, Erasure), "found as one"
    if not lift.lifted:
        return None
    since_ms = lift.source.appended_at_ms
    before: list[Entered] = []
    later: list[Entered] = []
    for one in entered[:last]:
        (later if _is_said_after(one[1], since_ms) else before).append(one)
    after = entered[last + 1 :]
    has_chosen = any(isinstance(what, PreferenceInput) for _, what, _ in (*later, *after))
    entered[:] = [*before, entered[last], *later, *after]
    return Return(lift.at_ms, has_chosen)


def _is_said_after(what: Input, since_ms: int) -> bool:
    return isinstance(what, SAID) and what.source.appended_at_ms > since_ms
