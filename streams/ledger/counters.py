"""Exact counts by category, channel, what happened, reason and hour; part of a ledger's database.

A count is written in the same ``WriteBatch`` as the rows it counts and the offsets behind them,
so it is never a replay too high nor a crash too low.

Keys: ``t <count key>`` since the beginning of the ledger, ``h <hour> <count key>`` in that hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rocksdict import Rdict, WriteBatch

from streams.ledger.database import backwards, between
from streams.ledger.rows import OTHER, CountKey
from streams.ledger.settings import LedgerSettings

Counts = Counter[tuple[int, CountKey]]
"""(hour since 1970, what) -> how many."""


class Counters:
    """The counters of one partition. ``add`` prepares, ``written`` follows the commit."""

    def __init__(self, database: Rdict, settings: LedgerSettings) -> None:
        self._database = database
        self._settings = settings
        self._first_hour = 0
        self._totals = {
            CountKey.unpack(key[1:]): int.from_bytes(value)
            for key, value in between(database, b"t", b"u")
        }

    def add(self, out: WriteBatch, counts: Counts) -> dict[CountKey, int]:
        """Puts the raised counts into a batch; returns the totals that ``written`` wants."""
        totals: dict[CountKey, int] = {}
        hours: Counts = Counter()
        for (hour, asked), count in counts.items():
            key = asked
            is_new = key not in self._totals and key not in totals
            if is_new and len(self._totals) + len(totals) >= self._settings.count_keys_max:
                key = CountKey(OTHER, "", OTHER, OTHER)
            totals[key] = totals.get(key, self._totals.get(key, 0)) + count
            hours[hour, key] += count
        for key, total in totals.items():
            out.put(b"t" + key.pack(), total.to_bytes(8))
        for (hour, key), count in hours.items():
            name = b"h" + hour.to_bytes(4) + key.pack()
            known = self._database.get(name)
            out.put(name, (int.from_bytes(known or b"") + count).to_bytes(8))
        return totals

    def written(self, totals: Mapping[CountKey, int]) -> None:
        """The batch that ``add`` filled is in the database."""
        self._totals.update(totals)

    def totals(self) -> dict[CountKey, int]:
        """Counts since the beginning of this ledger."""
        return dict(self._totals)

    def hours(self, first_hour: int, end_hour: int) -> Iterator[tuple[int, CountKey, int]]:
        """(hour since 1970, what, count) for hours in [first_hour, end_hour)."""
        start, end = b"h" + first_hour.to_bytes(4), b"h" + end_hour.to_bytes(4)
        for key, value in between(self._database, start, end):
            yield int.from_bytes(key[1:5]), CountKey.unpack(key[5:]), int.from_bytes(value)

    def hours_backwards(
        self, first_hour: int, end_hour: int
    ) -> Iterator[tuple[int, CountKey, int]]:
        """As ``hours``, newest first."""
        start, end = b"h" + first_hour.to_bytes(4), b"h" + end_hour.to_bytes(4)
        for key, value in backwards(self._database, start, end):
            yield int.from_bytes(key[1:5]), CountKey.unpack(key[5:]), int.from_bytes(value)

    def drop_before(self, hour: int) -> None:
        """Forgets the hours before; the totals keep what they counted."""
        if hour > self._first_hour:
            self._database.delete_range(b"h", b"h" + hour.to_bytes(4))
            self._first_hour = hour
