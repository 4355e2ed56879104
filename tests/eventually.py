"""Waiting in tests: for a condition with a deadline, never for a length of time."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

_POLL_INTERVAL_S = 0.02


async def eventually(condition: Callable[[], Any], deadline_s: float = 20.0) -> Any:
    """The first true result of `condition()`, which may be async. Fails after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s; at the end it was {result!r}")
        await asyncio.sleep(_POLL_INTERVAL_S)


def eventually_blocking(condition: Callable[[], Any], deadline_s: float = 20.0) -> Any:
    """As `eventually`, for a test without an event loop."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s; at the end it was {result!r}")
        time.sleep(_POLL_INTERVAL_S)
