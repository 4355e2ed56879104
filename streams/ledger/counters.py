"""Exact counts by category, channel, what happened, reason and hour; part of a ledger's database.

A count is written in the same ``WriteBatch`` as the rows it counts and the offsets behind them,
so it is never a replay too high nor a crash too low.

Keys: ``t <count key>`` since the beginning of the ledger, ``h <hour> <count key>`` in that hour,
and ``k <hour> <count key>`` what was known of the hour when an empty disk began (``hours_log.py``):
the larger of the two holds.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby

from rocksdict import Rdict, WriteBatch

from streams.ledger.database import backwards, between
from streams.ledger.rows import OTHER, CountKey
from streams.ledger.settings import LedgerSettings

Counts = Counter[tuple[int, CountKey]]
"""(hour since 1970, what) -> how many."""
Scan = Callable[[Rdict, bytes, bytes], Iterator[tuple[bytes, bytes]]]
"""``between`` or ``backwards``."""


class Counters:
    """The counters of one partition. ``add`` prepares, ``written`` follows the commit."""

    def __init__(self, database: Rdict, settings: LedgerSettings) -> None:
        self._database = database
        self._settings = settings
        self._first_hour = 0
        self._changed: dict[bytes, None] = {}
        """Names of hours' counters that are not in ``hours_log`` yet as they are."""
        self._adding: dict[bytes, None] = {}
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
            name = hour.to_bytes(4) + key.pack()
            known = self._database.get(b"h" + name)
            out.put(b"h" + name, (int.from_bytes(known or b"") + count).to_bytes(8))
            self._adding[name] = None
        return totals

    def written(self, totals: Mapping[CountKey, int]) -> None:
        """The batch that ``add`` filled is in the database."""
        self._totals.update(totals)
        self._changed |= self._adding
        self._adding = {}

    def totals(self) -> dict[CountKey, int]:
        """Counts since the beginning of this ledger."""
        return dict(self._totals)

    def hours(self, first_hour: int, end_hour: int) -> Iterator[tuple[int, CountKey, int]]:
        """(hour since 1970, what, count) for hours in [first_hour, end_hour)."""
        for name, count in self._merged(between, first_hour, end_hour, reverse=False):
            yield int.from_bytes(name[:4]), CountKey.unpack(name[4:]), count

    def hours_backwards(
        self, first_hour: int, end_hour: int
    ) -> Iterator[tuple[int, CountKey, int]]:
        """As ``hours``, newest first."""
        for name, count in self._merged(backwards, first_hour, end_hour, reverse=True):
            yield int.from_bytes(name[:4]), CountKey.unpack(name[4:]), count

    def _merged(
        self, scan: Scan, first_hour: int, end_hour: int, *, reverse: bool
    ) -> Iterator[tuple[bytes, int]]:
        """(name, the larger of what was counted and what was known before), in order of name."""
        first, end = first_hour.to_bytes(4), end_hour.to_bytes(4)
        both = (scan(self._database, kind + first, kind + end) for kind in (b"h", b"k"))
        ordered = heapq.merge(*both, key=lambda pair: pair[0][1:], reverse=reverse)
        for name, pairs in groupby(ordered, key=lambda pair: pair[0][1:]):
            yield name, max(int.from_bytes(value) for _, value in pairs)

    # ------------------------------------------------------------------------ what outlives it

    def know(self, known: Mapping[bytes, int]) -> None:
        """Takes what was known of the hours before an empty disk began."""
        out = WriteBatch(raw_mode=True)
        for name, count in known.items():
            out.put(b"k" + name, count.to_bytes(8))
        self._database.write(out)

    def changed_since(self, hour: int) -> None:
        """Counts every hour from this one on as changed."""
        for key, _ in between(self._database, b"h" + hour.to_bytes(4), b"i"):
            self._changed[key[1:]] = None

    def take_changed(self) -> dict[bytes, int | None]:
        """Counters that changed since they were taken, with what they are; ``None``: dropped."""
        taken, self._changed = self._changed, {}
        found: dict[bytes, int | None] = {}
        for name in taken:
            values = [self._database.get(kind + name) for kind in (b"h", b"k")]
            there = [int.from_bytes(value) for value in values if value is not None]
            found[name] = max(there) if there else None
        return found

    def give_back(self, names: Iterable[bytes]) -> None:
        """What was taken could not be written: it is still to be."""
        self._changed |= dict.fromkeys(names)

    def drop_before(self, hour: int) -> None:
        """Forgets the hours before; the totals keep what they counted."""
        if hour > self._first_hour:
            for kind in (b"h", b"k"):
                end = kind + hour.to_bytes(4)
                self.give_back(key[1:] for key, _ in between(self._database, kind, end))
                self._database.delete_range(kind, end)
            self._first_hour = hour
