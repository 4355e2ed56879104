"""The wall clock, held against two others: the machine's steady one, and the cluster's.

Times decide who is told what and when, and a partition's clock never goes back: one batch decided
on a machine whose clock is a day ahead would end everything that follows as expired, for a day. So
a worker begins only if its clock agrees with the broker's, and ends when its clock jumps; whatever
restarts it finds out whether the clock is right by now, and other workers go on meanwhile.

The broker's time comes from a record: a tick, which nobody reads as anything in wall mode, and
whose append time is the broker's own. Small steps, as time daemons make them, are let pass.

Invariant: ``WallClock.now_ms`` never gives a time after a jump of more than ``error_ms_max``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiokafka import AIOKafkaProducer

from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings

LOG_APPEND_TIME = 1
PARTITION = 0


class ClockWrong(Exception):  # noqa: N818 (a state, named for what happened)
    """This machine's clock cannot be trusted: nothing is decided or sent by it."""


class WallClock:
    """Unix milliseconds of this machine, until they jump."""

    def __init__(self, error_ms_max: int, on_wrong: Callable[[BaseException], None]) -> None:
        """``error_ms_max`` 0: whatever the clock says (stream mode)."""
        self._error_ms_max = error_ms_max
        self._on_wrong = on_wrong
        self._ahead_ms = wall_ms() - _steady_ms()

    def now_ms(self) -> int:
        """The time now. Raises ``ClockWrong``, and tells ``on_wrong``, when it jumped."""
        now_ms = wall_ms()
        ahead_ms = now_ms - _steady_ms()
        jump_ms, self._ahead_ms = ahead_ms - self._ahead_ms, ahead_ms
        if self._error_ms_max and abs(jump_ms) > self._error_ms_max:
            error = ClockWrong(
                f"the clock of this machine jumped by {jump_ms / 1000:+.0f} s. Nothing is decided"
                " or sent by it. Check the time daemon; the worker may be started again at once,"
                " and begins when its clock agrees with the broker's"
            )
            self._on_wrong(error)
            raise error
        return now_ms


async def check_against_cluster(settings: EngineSettings, topic: str) -> None:
    """Raises ``ClockWrong`` when this machine and the broker disagree about the time.

    ``topic`` has append times and takes records that mean nothing. Raises aiokafka's errors.
    """
    producer = AIOKafkaProducer(**client_settings(settings, "clock"), acks="all")
    await producer.start()
    try:
        before_ms = wall_ms()
        stored = await producer.send_and_wait(topic, None, b"clock", PARTITION)
        after_ms = wall_ms()
    finally:
        await producer.stop()
    if stored.timestamp_type != LOG_APPEND_TIME:
        return
    # Somewhere between the two the broker looked at its own.
    error_ms = max(before_ms - stored.timestamp, stored.timestamp - after_ms)
    if error_ms > settings.clock_error_ms_max:
        which = "ahead of" if before_ms > stored.timestamp else "behind"
        raise ClockWrong(
            f"the clock of this machine is {error_ms / 1000:.0f} s {which} the broker's. Nothing is"
            " decided or sent by a clock that is wrong: set both by the same time servers, or allow"
            f" more than clock_error_max = {settings.clock_error_ms_max} ms"
        )


def wall_ms() -> int:
    """What this machine says that it is, jumps included."""
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return int(time.monotonic() * 1000)
