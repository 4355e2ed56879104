"""Named places where a test can make the process die, to prove that nothing is lost there.

The environment variable ``FLOWSTATE_CRASH_POINT`` names one point (``after_send``) or one visit
to it (``after_send:3``, the third). The process then kills itself with SIGKILL: no handler, no
clean-up, as if the machine had lost power. Unset, a point costs one comparison.

Invariant: a point does nothing at all unless its own name is in the variable.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "FLOWSTATE_CRASH_POINT"

BATCH_POINTS = (
    "before_begin",
    "after_begin",
    "after_send",
    "before_commit",
    "after_commit",
    "before_store_write",
    "after_store_write",
    "before_offset_commit",
)
"""Points of the batch protocol in the order in which a batch passes them."""


class CrashPoints:
    """Reads the variable once; counts visits."""

    def __init__(self, armed: str | None = None) -> None:
        text = os.environ.get(VARIABLE, "") if armed is None else armed
        name, _, visit = text.partition(":")
        self._armed = name
        self._visits_left = int(visit) if visit else 1

    def pass_through(self, name: str) -> None:
        """Dies here when this is the armed visit to the armed point."""
        if name != self._armed:
            return
        self._visits_left -= 1
        if self._visits_left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
