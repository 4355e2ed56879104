"""What the Kafka client libraries say: warnings, and each of them at most once a second.

While a broker is away aiokafka says so for every attempt of every client, thousands of lines a
second: the disk fills, and what matters is not found.

Invariant: the first of its kind is always seen, and how many are not is told with the next one.
"""

from __future__ import annotations

import logging
import time

import aiokafka

NOISY = ("aiokafka", "faust", "mode", "streams.engine.faust_app", "streams.engine.group")
KINDS_MAX = 1_000


class OnceASecond(logging.Filter):
    """Lets one record of a kind through in a second: same logger, same text before its values."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], list[float]] = {}
        """When the last one was let through, and how many were not since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        kind = record.name, str(record.msg)
        now = time.monotonic()
        seen = self._kinds.get(kind)
        if seen is None:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[kind] = [now, 0]
            return True
        if now - seen[0] < 1:
            seen[1] += 1
            return False
        if seen[1]:
            record.msg, record.args = f"{record.getMessage()} (and {seen[1]:.0f} more)", ()
        seen[:] = now, 0
        return True


def quiet_client_logs() -> None:
    """Keeps the libraries' debug and progress records from being built at all; warnings stay.

    Faust builds a record for every message sent, whatever the level of the root logger.
    """
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    calm = OnceASecond()
    for name in list(logging.root.manager.loggerDict):
        # A filter of a logger is not asked about the records of those below it.
        if name.partition(".")[0] == aiokafka.__name__:
            logger = logging.getLogger(name)
            if not any(isinstance(one, OnceASecond) for one in logger.filters):
                logger.addFilter(calm)
