"""Counters by hour outlive the disk: what a new one counts again is never added, nor lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from streams.ledger.queries import LedgerQueries
from streams.ledger.reasons import ReasonsQuestion
from streams.ledger.rows import HOUR_MS
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from tests.ledger.build import CODEC, T0, decision, entry, rows_of

START = T0 // HOUR_MS * HOUR_MS
HOUR = START // HOUR_MS


class Kept:
    """The topic, as a dictionary."""

    def __init__(self) -> None:
        self.counters: dict[bytes, int] = {}

    def take(self, changed: Mapping[bytes, int | None]) -> None:
        for name, count in changed.items():
            if count is None:
                self.counters.pop(name, None)
            else:
                self.counters[name] = count


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[LedgerStore]]:
    stores: list[LedgerStore] = []
    yield stores
    for store in stores:
        store.close()


def count(store: LedgerStore, hours: range, first: int = 0) -> None:
    """One verdict in each hour, at the offsets from ``first``."""
    for offset, hour in enumerate(hours, first):
        record = decision(offset, entry("held", f"e{offset}"), at_ms=START + hour * HOUR_MS)
        store.write(rows_of(record), {"decisions": offset + 1})


def held(store: LedgerStore) -> dict[int, int]:
    found = LedgerQueries(store, CODEC).reasons(ReasonsQuestion(from_ms=0, only={"what": "held"}))
    return {((one.hour_ms or 0) - START) // HOUR_MS: one.count for one in found}


def test_an_empty_disk_begins_with_what_was_known(
    tmp_path: Path, opened: list[LedgerStore]
) -> None:
    kept = Kept()
    old = LedgerStore(tmp_path / "old", 3, LedgerSettings())
    count(old, range(5))
    count(old, range(5), 5)
    kept.take(old.counters.take_changed())
    before = held(old)
    old.close()
    assert before == dict.fromkeys(range(5), 2)

    new = LedgerStore(tmp_path / "new", 3, LedgerSettings())
    opened.append(new)
    new.counters.know(kept.counters)
    count(new, range(3, 5), 3)
    count(new, range(3, 7), 8)
    assert held(new) == {**before, 5: 1, 6: 1}, "counted again up to what was known, and on"
    count(new, range(3, 4), 20)
    assert held(new)[3] == 3
    backwards = [hour for hour, *_ in new.hours_backwards(0, HOUR + 10)]
    assert backwards == sorted(backwards, reverse=True)


def test_what_was_not_written_is_written_later_and_what_is_dropped_goes(
    tmp_path: Path, opened: list[LedgerStore]
) -> None:
    kept = Kept()
    store = LedgerStore(tmp_path, 3, LedgerSettings(hours_kept_max=4))
    opened.append(store)
    count(store, range(3))
    taken = store.counters.take_changed()
    assert not store.counters.take_changed()
    store.counters.give_back(taken)
    kept.take(store.counters.take_changed())
    whole = len(kept.counters)
    assert whole >= 3
    count(store, range(6, 7), 3)
    store.drop_old()
    kept.take(store.counters.take_changed())
    assert {int.from_bytes(name[:4]) - HOUR for name in kept.counters} == {2, 6}
    store.counters.changed_since(HOUR + 6)
    assert {int.from_bytes(name[:4]) - HOUR for name in store.counters.take_changed()} == {6}
