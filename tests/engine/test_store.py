"""The local store: atomic writes, the due index, damage, and a lock that is really given back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import Options, Rdict

from streams.engine.api import Due
from streams.engine.store import (
    DAMAGED,
    HASHED_BYTES,
    Followed,
    PartitionStore,
    SharedMemory,
    StoreDamaged,
    due_key,
)

TOPIC = "changelog"


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(4 << 20, 4 << 20)


@pytest.fixture
def store(tmp_path: Path, memory: SharedMemory) -> PartitionStore:
    store = PartitionStore(tmp_path / "partition", memory)
    assert store.open() is None
    return store


def test_a_write_is_read_back_with_its_offset(store: PartitionStore) -> None:
    store.write([(b"pa", b"1"), (b"pb", b"2")], [], Followed(TOPIC, 7))
    store.write([(b"pa", None)], [], Followed(TOPIC, 9))
    assert store.get_many([b"pa", b"pb", b"pc"]) == [None, b"2", None]
    assert store.get_many([]) == []
    assert store.followed() == Followed(TOPIC, 9)


def test_scan_is_ordered_bounded_and_starts_after(store: PartitionStore) -> None:
    pairs = [(b"p%d" % n, b"%d" % n) for n in range(5)]
    store.write([*pairs, (b"q0", b"other"), (b"o9", b"other")], [], Followed(TOPIC, 1))
    assert store.scan(b"p", None, 10) == pairs
    assert store.scan(b"p", b"p1", 2) == pairs[2:4]
    assert store.scan(b"x", None, 10) == []


@pytest.mark.parametrize("was_on_disk", [True, False])
def test_what_is_purged_is_no_longer_on_the_disk(
    store: PartitionStore, memory: SharedMemory, was_on_disk: bool
) -> None:
    name = b"somebody whose name is long enough to be found"
    others = [(b"p%05d" % n, b"x" * 100) for n in range(2_000)]
    store.write([*others, (b"p" + name, b"1")], [Due(name, None, 77)], Followed(TOPIC, 1))
    if was_on_disk:
        store._db.flush()
    store.write([(b"p" + name, None)], [Due(name, 77, None)], Followed(TOPIC, 2))
    assert name in files(store.folder)
    store.purge([b"p" + name])
    assert store.get_many([b"p" + name, b"p00007"]) == [None, b"x" * 100]
    store.close()
    assert PartitionStore(store.folder, memory).open() is None
    assert name not in files(store.folder)


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_due_times_are_found_oldest_first_up_to_now(store: PartitionStore) -> None:
    due = [Due(b"late", None, 300), Due(b"b", None, 100), Due(b"a", None, 100)]
    store.write([], due, Followed(TOPIC, 1))
    assert store.due_until(99, 10) == []
    assert store.due_until(100, 10) == [(100, b"a"), (100, b"b")]
    assert store.due_until(1_000, 2) == [(100, b"a"), (100, b"b")]
    assert store.first_due_ms() == 100
    store.write([], [Due(b"a", 100, 400), Due(b"b", 100, None)], Followed(TOPIC, 2))
    assert store.due_until(1_000, 10) == [(300, b"late"), (400, b"a")]


def test_a_due_time_that_is_taken_out_and_put_back_stays(store: PartitionStore) -> None:
    store.write([], [Due(b"a", 100, None), Due(b"a", None, 100)], Followed(TOPIC, 1))
    assert store.due_until(100, 10) == [(100, b"a")]


@contextmanager
def new_store() -> Iterator[PartitionStore]:
    with TemporaryDirectory() as folder:
        store = PartitionStore(Path(folder) / "partition", SharedMemory(4 << 20, 4 << 20))
        store.open()
        yield store
        store.close()


OWNERS = st.sampled_from([b"a", b"b", b"c"])
MOMENTS = st.integers(0, 9)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("moves"), OWNERS, st.none() | MOMENTS),
            st.tuples(st.just("look"), MOMENTS, st.integers(1, 3)),
            st.tuples(st.just("fire"), MOMENTS, st.integers(1, 3)),
            st.tuples(st.just("opened again"), st.none(), st.none()),
        ),
        max_size=30,
    )
)
def test_whatever_moves_or_fires_what_is_due_is_found(steps: list[tuple[Any, Any, Any]]) -> None:
    """Also when the clock goes back, and what is new is due before all that was."""
    due: dict[bytes, int] = {}
    with new_store() as store:
        for what, one, other in steps:
            changes = []
            if what == "moves":
                changes = [Due(one, due.pop(one, None), other)]
                if other is not None:
                    due[one] = other
            elif what == "opened again":
                store.close()
                store.open()
            else:
                there = sorted((at, owner) for owner, at in due.items() if at <= one)[:other]
                assert store.due_until(one, other) == there
                if what == "fire":
                    changes = [Due(owner, due.pop(owner), None) for _, owner in there]
            store.write([], changes, Followed(TOPIC, 1))


def test_what_fired_is_not_stepped_over_at_the_next_look(
    store: PartitionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at nothing after a million digests closed took 10 ms of every partition's tick."""
    everyone = [b"%06d" % n for n in range(100)]
    store.write([], [Due(owner, None, 100) for owner in everyone], Followed(TOPIC, 1))
    store.write([], [Due(owner, 100, None) for owner in everyone], Followed(TOPIC, 2))
    began: list[bytes] = []

    def look(_: Any, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        began.append(start)
        return []

    monkeypatch.setattr(store, "_range", look)
    assert store.due_until(200, 1) == store.due_until(300, 1) == []
    assert began == [b"", due_key(201, b"")]


def test_the_due_index_is_no_part_of_a_scan_of_the_state(store: PartitionStore) -> None:
    store.write([(b"w1", b"x")], [Due(b"1", None, 5)], Followed(TOPIC, 1))
    assert store.scan(b"w", None, 10) == [(b"w1", b"x")]
    assert {key[:1] for key, _ in store.scan(b"", None, 10)} == {b"w", b"\xfe"}


def test_close_gives_the_lock_back(store: PartitionStore, memory: SharedMemory) -> None:
    store.write([(b"a", b"1")], [], Followed(TOPIC, 1))
    pairs = store.scan(b"a", None, 10)
    store.close()
    store.close()
    again = PartitionStore(store.folder, memory)
    assert again.open() is None
    assert again.scan(b"a", None, 10) == pairs
    again.close()


def test_damage_that_is_read_is_remembered_and_wiped(
    store: PartitionStore, memory: SharedMemory
) -> None:
    """Damage in the middle of a table is not seen when it is opened, only when it is read."""
    rows = [(b"a%06d" % n, b"%064d" % (n * 7919)) for n in range(20_000)]
    store.write(rows, [], Followed(TOPIC, 1))
    store._db.flush()
    store.close()
    for path in store.folder.glob("*.sst"):
        data = bytearray(path.read_bytes())
        for position in range(len(data) // 3, len(data) // 2, 64):
            data[position] ^= 0xFF
        path.write_bytes(data)
    damaged = PartitionStore(store.folder, memory)
    assert damaged.open() is None
    with pytest.raises(StoreDamaged):
        damaged.get_many([key for key, _ in rows])
    damaged.close()
    assert (store.folder / DAMAGED).exists()
    again = PartitionStore(store.folder, memory)
    assert again.open() == "it was marked as damaged"
    assert again.followed() is None
    again.close()


def test_a_database_of_an_older_release_is_wiped(tmp_path: Path, memory: SharedMemory) -> None:
    """Its due times would not be found, and nothing that waits would ever be sent."""
    options = Options(raw_mode=True)
    older = Rdict(str(tmp_path / "partition"), options)
    older[b"a"] = b"1"
    older.close()
    store = PartitionStore(tmp_path / "partition", memory)
    reason = store.open()
    assert reason is not None
    assert "older release" in reason
    assert store.scan(b"", None, 10) == []
    store.close()


def test_keys_alike_for_longer_than_is_hashed_are_told_apart(store: PartitionStore) -> None:
    """And found in order: what was written lately lies in the order of nothing."""
    pairs = [(b"p" + b"x" * HASHED_BYTES + b"%03d" % n, b"%d" % n) for n in range(300)]
    store.write(reversed(pairs), [], Followed(TOPIC, 1))
    assert store.get_many([key for key, _ in pairs]) == [value for _, value in pairs]
    assert store.scan(b"p", pairs[10][0], 5) == pairs[11:16]


def test_a_folder_that_cannot_be_opened_is_wiped(
    store: PartitionStore, memory: SharedMemory
) -> None:
    store.write([(b"a", b"1")], [], Followed(TOPIC, 1))
    store.close()
    (store.folder / "CURRENT").write_text("garbage")
    again = PartitionStore(store.folder, memory)
    reason = again.open()
    assert reason is not None
    assert "cannot be opened" in reason
    assert again.get(b"a") is None
    again.close()


def test_a_start_over_is_empty(store: PartitionStore) -> None:
    store.write([(b"a", b"1")], [], Followed(TOPIC, 1))
    store.start_over()
    assert (store.get(b"a"), store.followed()) == (None, None)
