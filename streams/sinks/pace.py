"""At most one send in an interval to each destination, for providers that count so (Slack).

Pure. Invariant: the memory is bounded; what is forgotten was sent to longest ago, so forgetting
can only let a send through that the provider would then refuse with a time to wait.
"""

from __future__ import annotations

from collections import OrderedDict

DESTINATIONS_MAX = 50_000


class Pace:
    """When each destination was last sent to."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._latest: OrderedDict[str, int] = OrderedDict()

    def wait_ms(self, destination: str, now_ms: int) -> int:
        """Milliseconds until ``destination`` may be sent to; 0 is now."""
        if not self._interval_ms:
            return 0
        latest = self._latest.get(destination)
        if latest is None or now_ms < latest:  # a clock that went back must not block for long
            return 0
        return max(0, latest + self._interval_ms - now_ms)

    def sent(self, destination: str, now_ms: int) -> None:
        """A send to ``destination`` begins."""
        if not self._interval_ms:
            return
        self._latest[destination] = now_ms
        self._latest.move_to_end(destination)
        if len(self._latest) > DESTINATIONS_MAX:
            self._latest.popitem(last=False)
