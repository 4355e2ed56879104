"""The ledger's database: all or nothing, counted once, bounded, rebuilt when damaged."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
from rocksdict import Options, Rdict, ReadOptions

from streams import topics
from streams.ledger.rows import DAY_MS, HOUR_MS, OTHER, CountKey
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from tests.ledger.build import ANN, T0, decision, entry, outcome, receipt, rows_of, sent, subject_of

SETTINGS = LedgerSettings(block_cache_bytes=1 << 20, write_buffer_bytes=1 << 20)
ROUTED = CountKey("message", "push", "delivering", "routed")


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = LedgerStore(tmp_path, 3, SETTINGS)
    yield made
    made.close()


def routed(offset: int, event_id: str = "e1", at_ms: int = T0):  # type: ignore[no-untyped-def]
    return decision(offset, entry("delivering", event_id, deliveries=(sent(),)), at_ms=at_ms)


def test_rows_counts_and_offsets_come_back(store: LedgerStore) -> None:
    store.write(rows_of(routed(7), outcome(4), receipt(2, T0 + 5)), {topics.DECISIONS: 8})
    assert store.offsets() == {topics.DECISIONS: 8}
    rows = store.history(ANN.encode(), None, 10)
    assert [row.kind for row in rows] == ["receipt", "outcome", "decision"]
    assert store.totals()[ROUTED] == 1
    assert store.moments(subject_of("e1"), 10) == (ANN.encode(), [T0])
    assert store.moments("d" * 32, 10) == (ANN.encode(), [T0])


def test_they_survive_closing(tmp_path: Path) -> None:
    first = LedgerStore(tmp_path, 3, SETTINGS)
    first.write(rows_of(routed(0), routed(1, "e2", T0 + 40 * DAY_MS)), {topics.DECISIONS: 2})
    first.close()
    second = LedgerStore(tmp_path, 3, SETTINGS)
    assert second.offsets() == {topics.DECISIONS: 2}
    assert second.totals() == {ROUTED: 2}
    assert len(second.buckets) == 2
    assert len(second.history(ANN.encode(), None, 10)) == 2
    second.close()


def test_a_second_owner_is_refused_and_nothing_is_set_aside(store: LedgerStore) -> None:
    folder = store._folder.parent
    with pytest.raises(Exception, match=r"(?i)lock"):
        LedgerStore(folder, 3, SETTINGS)
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_history_is_newest_first_and_pages_without_gap_or_overlap(store: LedgerStore) -> None:
    batch = [routed(n, f"e{n}", T0 + (n // 3) * DAY_MS) for n in range(20)]
    store.write(rows_of(*batch), {topics.DECISIONS: 20})
    whole = [row.suffix for row in store.history(ANN.encode(), None, 100)]
    paged: list[bytes] = []
    while page := store.history(ANN.encode(), paged[-1] if paged else None, 3):
        paged += [row.suffix for row in page]
    assert paged == whole == sorted(whole, reverse=True)
    assert len(whole) == 20


def test_one_recipient_is_not_another_whose_name_starts_alike(store: LedgerStore) -> None:
    longer = decision(1, entry("held", "e9"), recipient_id=ANN + "e")
    store.write(rows_of(routed(0), longer), {topics.DECISIONS: 2})
    assert len(store.history(ANN.encode(), None, 10)) == 1
    assert len(store.history(b"anne", None, 10)) == 1
    assert store.history(b"an", None, 10) == []


def test_the_same_try_is_recorded_and_counted_once(store: LedgerStore) -> None:
    again = outcome(5, answered_at_ms=T0 + 99, possible_repeat=True)
    store.write(rows_of(outcome(4), again), {topics.OUTCOMES: 6})
    store.write(rows_of(outcome(7)), {topics.OUTCOMES: 8})
    store.write(rows_of(outcome(8, attempt=2), outcome(9, epoch=1)), {topics.OUTCOMES: 10})
    assert sum(store.totals().values()) == 3
    assert store.meta()["repeats"] == 2
    kept = store.history(ANN.encode(), None, 10)
    assert len(kept) == 3


def test_rocksdict_still_takes_a_lower_bound_for_an_upper_one(tmp_path: Path) -> None:
    """When this fails, ``LedgerStore.history`` can have its lower bound."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    database = Rdict(str(tmp_path / "bound"), options)
    database[b"a"], database[b"b"] = b"1", b"2"
    bound = ReadOptions()
    bound.set_iterate_lower_bound(b"b")
    cursor = database.iter(bound)
    cursor.seek_to_first()
    assert cursor.key() == b"a"
    database.close()


def test_counts_by_hour_and_for_ever(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, LedgerSettings(hours_kept_max=2))
    for n, hour in enumerate((0, 0, 1, 5)):
        store.write(rows_of(routed(n, f"e{n}", T0 + hour * HOUR_MS)), {topics.DECISIONS: n + 1})
    first = T0 // HOUR_MS
    counted = [(hour - first, n) for hour, key, n in store.hours(first, first + 9) if key == ROUTED]
    assert counted == [(0, 2), (1, 1), (5, 1)]
    store.drop_old()
    counted = [(hour - first, n) for hour, _, n in store.hours(first, first + 9)]
    assert counted == [(5, 1)]
    assert store.totals() == {ROUTED: 4}
    store.close()


def test_made_up_categories_cannot_fill_the_counters(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, LedgerSettings(count_keys_max=3))
    batch = [decision(n, entry("held", f"e{n}", category=f"c{n}")) for n in range(10)]
    store.write(rows_of(*batch[:5]), {topics.DECISIONS: 5})
    store.write(rows_of(*batch[5:]), {topics.DECISIONS: 10})
    totals = store.totals()
    assert totals[CountKey(OTHER, "", OTHER, OTHER)] == 7
    assert sum(totals.values()) == 10
    assert len(totals) == 4
    store.close()


@pytest.mark.parametrize(
    ("settings", "reason", "left"),
    [
        (LedgerSettings(retention_days=5), "age", 6),
        (LedgerSettings(buckets_max=4), "number", 4),
        (LedgerSettings(partition_bytes_max=1), "size", 1),
    ],
)
def test_whole_days_are_dropped(
    tmp_path: Path, settings: LedgerSettings, reason: str, left: int
) -> None:
    store = LedgerStore(tmp_path, 3, settings)
    for day in range(10):
        store.write(rows_of(routed(day, f"e{day}", T0 + day * DAY_MS)), {topics.DECISIONS: day + 1})
    assert store.drop_old() == {reason: 10 - left}
    assert len(store.history(ANN.encode(), None, 100)) == left
    assert store.drop_old() == {}
    store.write(rows_of(routed(10, "late", T0)), {topics.DECISIONS: 11})
    assert store.meta()["too_old"] == 1
    assert len(store.buckets) == left
    assert store.totals() == {ROUTED: 11}
    store.close()
    again = LedgerStore(tmp_path, 3, settings)
    assert len(again.history(ANN.encode(), None, 100)) == left
    assert again.offsets() == {topics.DECISIONS: 11}
    again.close()


def test_a_partition_keeps_the_days_per_bucket_it_was_made_with(tmp_path: Path) -> None:
    first = LedgerStore(tmp_path, 3, LedgerSettings(bucket_days=7))
    first.write(rows_of(outcome(0)), {topics.OUTCOMES: 1})
    first.close()
    second = LedgerStore(tmp_path, 3, LedgerSettings(bucket_days=1))
    second.write(rows_of(outcome(1)), {topics.OUTCOMES: 2})
    assert second.meta()["repeats"] == 1
    second.close()


def _fill_until_killed(folder: Path, started) -> None:  # type: ignore[no-untyped-def]
    store = LedgerStore(folder, 3, SETTINGS)
    at = store.offsets().get(topics.DECISIONS, 0)
    while True:
        days = [T0 + ((at + n) % 5) * DAY_MS for n in range(7)]
        batch = [routed(at + n, f"e{at + n}", day) for n, day in enumerate(days)]
        store.write(rows_of(*batch), {topics.DECISIONS: at + 7})
        at += 7
        started.set()


@pytest.mark.slow
def test_killed_at_any_moment_counts_rows_and_offsets_agree(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    moments = random.Random(seed)
    context = multiprocessing.get_context("spawn")
    for _ in range(6):
        started = context.Event()
        process = context.Process(target=_fill_until_killed, args=(tmp_path, started))
        process.start()
        assert started.wait(30)
        process.join(moments.uniform(0.01, 0.3))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        store = LedgerStore(tmp_path, 3, SETTINGS)
        written = store.offsets()[topics.DECISIONS]
        assert store.totals() == {ROUTED: written}
        assert len(store.history(ANN.encode(), None, written + 100)) == written
        store.close()


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_database_is_set_aside_and_begun_again(tmp_path: Path, harm: str) -> None:
    store = LedgerStore(tmp_path, 3, SETTINGS)
    store.write(rows_of(*(routed(n, f"e{n}") for n in range(50))), {topics.DECISIONS: 50})
    store.sync()
    store.close()
    for file in (tmp_path / "3").glob("MANIFEST-*" if harm != "remove" else "*.sst"):
        data = bytearray(file.read_bytes())
        if harm == "flip":
            data[len(data) // 2] ^= 0xFF
            file.write_bytes(data)
        elif harm == "truncate":
            file.write_bytes(data[: len(data) // 3])
        else:
            file.unlink()
    again = LedgerStore(tmp_path, 3, SETTINGS)
    assert again.was_damaged
    assert again.offsets() == {}
    assert (tmp_path / "3.damaged").is_dir()
    again.write(rows_of(routed(0)), {topics.DECISIONS: 1})
    again.close()


def test_damage_found_while_running_rebuilds_at_the_next_start(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, SETTINGS)
    store.write(rows_of(routed(0)), {topics.DECISIONS: 1})
    store.mark_damaged()
    store.close()
    for _ in range(2):
        again = LedgerStore(tmp_path, 3, SETTINGS)
        was_damaged = again.was_damaged
        again.close()
    assert not was_damaged, "only once"


def test_a_database_of_another_format_is_set_aside_and_begun_again(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, SETTINGS)
    store.write(rows_of(routed(0)), {topics.DECISIONS: 1})
    store._put_meta("format", 1)
    store.close()
    again = LedgerStore(tmp_path, 3, SETTINGS)
    assert again.was_damaged
    assert again.offsets() == {}, "all is read again"
    again.write(rows_of(routed(0)), {topics.DECISIONS: 1})
    again.close()
    third = LedgerStore(tmp_path, 3, SETTINGS)
    assert not third.was_damaged
    third.close()
