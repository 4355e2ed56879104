"""What a person sees while the demo runs: the phase, counters that move, and what happens.

On a terminal it is one live table; elsewhere (a log, a pipe) a line every few seconds. It only
reads: ``DemoView.numbers`` is set by the demo, events of child processes are handed in.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 3.0
REFRESH_PER_SECOND = 5


class Numbers(msgspec.Struct, frozen=True):
    """How far everything is; totals are 0 while unknown."""

    published: int = 0
    published_total: int = 0
    decided: int = 0
    decided_total: int = 0
    received: dict[str, int] = {}
    """Kind of destination -> messages that its provider has accepted."""
    lag: dict[str, int] = {}
    """Role -> records that it has still to read."""


class DemoView:
    """Shows progress from ``with`` to the end of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._phase = ""
        self._phase_started = self._started
        self._line_at = 0.0
        self.numbers = Numbers()
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def phase(self, text: str) -> None:
        """A new phase begins; the one before gets its duration."""
        if self._phase:
            self.say(f"[dim]{self._phase}: {time.monotonic() - self._phase_started:.1f} s[/dim]")
        self._phase, self._phase_started = text, time.monotonic()

    def finish(self) -> None:
        """The last phase is over; nothing moves any more."""
        self.phase("")
        self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, numbers: Numbers) -> None:
        """New numbers; off a terminal they are a line now and then."""
        self.numbers = numbers
        now = time.monotonic()
        if not self._console.is_terminal and now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            received = sum(numbers.received.values())
            lag = ", ".join(f"{role} {count:,}" for role, count in numbers.lag.items())
            self.say(
                f"{self.elapsed_s:5.0f} s  {self._phase}: published {numbers.published:,}, decided"
                f" {numbers.decided:,}, received by providers {received:,}; lag {lag}"
            )

    def _render(self) -> RenderableType:
        numbers = self.numbers
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="dim")
        table.add_column()
        table.add_row("published", _progress(numbers.published, numbers.published_total))
        table.add_row("decided", _progress(numbers.decided, numbers.decided_total))
        received = "  ".join(
            f"{kind} {count:,}" for kind, count in sorted(numbers.received.items())
        )
        table.add_row("received", received or "nothing yet")
        lag = "  ".join(f"{role} {count:,}" for role, count in numbers.lag.items())
        table.add_row("lag", lag or "unknown")
        title = Text(f"{self._phase}   {self.elapsed_s:.0f} s")
        return Group(Spinner("dots", title), table)


def _progress(count: int, total: int) -> str:
    if not total:
        return f"{count:,}"
    return f"{count:,} of {total:,}  ({100 * count // total} %)"
