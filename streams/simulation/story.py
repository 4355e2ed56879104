"""What happened in one simulation, in order: printed when a seed fails."""

from __future__ import annotations

import logging
from collections import deque

from streams.simulation.loop import CURRENT, SimLoop

LINES_MAX = 20_000
"""Older lines are forgotten; a failing run is short."""


class Story:
    """Lines with their time and process."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._lines: deque[tuple[int, str, str]] = deque(maxlen=LINES_MAX)

    def tell(self, text: str, who: str | None = None) -> None:
        """One thing that happened just now."""
        self._lines.append((self._loop.now_us, who or CURRENT.get().name, text))

    def lines(self) -> list[str]:
        """All of it, for people."""
        return [f"{at / 1e6:10.6f}  {who:<12} {text}" for at, who, text in self._lines]


class StoryHandler(logging.Handler):
    """Puts what the product logs into the story."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.INFO)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        """One record of the product's log."""
        text = record.getMessage().splitlines() or [""]
        self._story.tell(f"log {record.levelname.lower()}: {text[0]}")
