"""How well a provider does among others of its kind: loses share when it is slow or fails.

Every ``period_ms`` the answers of the period are looked at. When a share of them was late or no
answer at all the provider loses ten points of a hundred, else it wins ten back; after an outage it
begins at ten. So what it lost returns over a minute and a half, not at once. (After GOV.UK Notify,
which moves ten points of weight between SMS providers for slow deliveries.)

The points are a chance: of a hundred attempts so many ask this provider in its usual place, the
others ask it last. When all are equally ill the weights decide again.

Pure: ``now_ms`` is an argument. Invariant: 10 <= points <= 100.
"""

from __future__ import annotations

from streams.sinks.settings import HealthSettings

POINTS_MAX = 100
POINTS_STEP = 10


class Health:
    """One provider in one worker."""

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._period_ends_ms = 0
        self._answers = 0
        self._bad = 0
        self.points = POINTS_MAX

    def answered(self, took_ms: float, failed: bool, now_ms: int) -> None:
        """Takes an answer of the provider, or that there was none."""
        self.look(now_ms)
        self._answers += 1
        self._bad += failed or took_ms > self._settings.slow_ms

    def collapsed(self) -> None:
        """The breaker opened: whatever was known is over."""
        self.points = POINTS_STEP
        self._answers = self._bad = 0

    def look(self, now_ms: int) -> int:
        """The points now."""
        period_ms = self._settings.period_ms
        if now_ms >= self._period_ends_ms or self._period_ends_ms - now_ms > period_ms:
            self._judge()
            self._period_ends_ms = now_ms + period_ms
        return self.points

    def _judge(self) -> None:
        if not self._answers:
            return  # nothing was asked: nothing is known
        enough = self._answers >= self._settings.answers_min
        if enough and self._bad >= self._settings.bad_share * self._answers:
            self.points = max(POINTS_STEP, self.points - POINTS_STEP)
        elif not self._bad or enough:
            self.points = min(POINTS_MAX, self.points + POINTS_STEP)
        self._answers = self._bad = 0
