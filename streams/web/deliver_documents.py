"""What a deliver worker says of its providers, as documents (``deliver_pages.py``).

Apart from what fills them, because a compiled module cannot define structs (``deploy/compile.sh``).

Invariant: nothing of a person is in them: names of the configuration and of campaigns, reasons,
numbers.
"""

from __future__ import annotations

import msgspec


class AnswerCount(msgspec.Struct, frozen=True):
    """How often a provider answered so."""

    provider: str
    status: str
    reason: str
    count: int


class Times(msgspec.Struct, frozen=True):
    """A histogram over ``rolling.BOUNDS_MS``: a provider's answers, or a priority's latency."""

    name: str
    counts: list[int]


class Window(msgspec.Struct, frozen=True):
    """What happened in so many minutes up to now."""

    minutes: int
    answers: list[AnswerCount] = []
    send_times: list[Times] = []
    """By provider: how long it took to answer."""
    event_times: list[Times] = []
    """By priority: from the event's append to a provider's yes."""


class Minute(msgspec.Struct, frozen=True):
    """One minute's answers by provider, for a chart."""

    start_ms: int
    accepted: dict[str, int]
    other: dict[str, int]


class ProviderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One provider as one worker has it now."""

    name: str
    kind: str
    breaker: str
    """``closed``, ``open`` or ``half_open``."""
    is_killed: bool
    """Switched off by a kill switch."""
    in_flight: int
    in_flight_max: int
    budget_per_second: float | None
    """What this worker may send; ``None``: no limit."""
    quota_per_second: float | None
    """What the account allows over all workers."""
    weight: int


class DeliverStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's word."""

    since_ms: int
    now_ms: int
    providers: list[ProviderStatus]
    minute: Window
    """The last full minute and what there is of this one."""
    hour: Window
    day: Window
    minutes: list[Minute]
    """The last hour, minute by minute."""
    kill_switches: list[str] = []
    """Scopes of the kill switches that are on, of every sort, in order; not all if there are very
    many."""
    kill_switch_count: int = 0
    """How many are on."""
