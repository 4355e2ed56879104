"""Forgetting somebody in the ledger: rows, index and bytes on disk go, counts and a mark stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.codec import DecodeError
from streams.ledger.database import between
from streams.ledger.erasure import (
    NEVER_MS,
    Erased,
    Erasing,
    Mark,
    read_erasure,
    without_person,
)
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from streams.privacy import PrivacySettings, Pseudonyms
from tests.eventually import eventually_blocking
from tests.ledger.build import (
    ANN,
    CODEC,
    T0,
    decision,
    entry,
    outcome,
    receipt,
    rows_of,
    sent,
    subject_of,
)

NAMES = Pseudonyms(PrivacySettings(hash_key="a key of these tests alone"))
NAME = NAMES.of(ANN)
DAY = 24 * 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    """Ann's delivery, answer and receipt on two days, and somebody else's event."""
    store = LedgerStore(tmp_path, 3, LedgerSettings())
    routed = entry("delivering", deliveries=(sent(),), at=0)
    bob = entry("held", "e9", subject_id=subject_of("e9", "bob"))
    store.write(
        [
            *rows_of(decision(0, routed), outcome(0), receipt(0)),
            *rows_of(decision(1, entry("held", "e2"), at_ms=T0 + DAY)),
            *rows_of(decision(2, bob, recipient_id="bob")),
        ],
        {"decisions": 3},
    )
    yield store
    store.close()


def erasing(at_ms: int = T0, lifted: bool = False) -> Erasing:
    return Erasing(CODEC, NAMES, [Erased(ANN.encode(), at_ms, lifted)])


def pairs(store: LedgerStore) -> list[tuple[bytes, bytes]]:
    return [pair for bucket in store._buckets.values() for pair in between(bucket, b"", b"\xff")]


def test_rows_and_index_go_and_the_counts_stay(store: LedgerStore) -> None:
    before = store.totals()
    whole = len(pairs(store))
    erasures = erasing()
    store.write([], {"erasures": 1}, erasures)
    assert sum(erasures.touched.values()) == whole - len(pairs(store))
    assert store.rows_about(ANN.encode(), 10) == 0
    assert store.rows_about(b"bob", 10) == 1
    assert not [pair for pair in pairs(store) if ANN.encode() in pair[0] + pair[1]]
    assert store.moments(subject_of("e1"), 5) == (None, [])
    assert store.moments(subject_of("e9", "bob"), 5)[0] == b"bob"
    assert store.totals() == before
    assert store.offsets()["erasures"] == 1


def test_the_mark_outlives_a_restart_and_ends_by_age(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path, 3, LedgerSettings())
    store.write([], {"erasures": 1}, erasing())
    store.close()
    again = LedgerStore(tmp_path, 3, LedgerSettings())
    assert again.marks.known == {NAME: Mark(T0, NEVER_MS)}
    assert again.marks.drop_before(T0) == 0
    assert again.marks.drop_before(T0 + 1) == 1
    again.close()
    third = LedgerStore(tmp_path, 3, LedgerSettings())
    assert not third.marks.known
    third.close()


def test_what_is_lifted_ends_the_mark_at_that_time(store: LedgerStore) -> None:
    store.write([], {"erasures": 2}, erasing(T0 + 5, lifted=True))
    assert store.marks.known == {NAME: Mark(T0 + 5, T0 + 5)}
    assert store.rows_about(ANN.encode(), 10) == 4, "coming back deletes nothing"


def test_without_a_person_only_the_counts_are_left(store: LedgerStore) -> None:
    (rows,) = rows_of(outcome(7))
    before, size = store.totals(), len(pairs(store))
    store.write([without_person(rows)], {"outcomes": 8})
    assert len(pairs(store)) == size
    changed = {key for key, count in store.totals().items() if before.get(key) != count}
    assert {key.what for key in changed} == {"answer:accepted"}


def test_the_bytes_are_gone_from_the_disk(tmp_path: Path) -> None:
    name = "a-recipient-whose-name-is-long-enough-to-be-found"
    settings = LedgerSettings()
    store = LedgerStore(tmp_path, 3, settings)
    held = [entry("held", f"e{n}", subject_id=subject_of(f"e{n}", name)) for n in range(5)]
    store.write(
        [row for n, one in enumerate(held) for row in rows_of(decision(n, one, recipient_id=name))],
        {"decisions": 5},
    )
    store.sync()
    assert name.encode() in everything_in(tmp_path)
    erasures = Erasing(CODEC, NAMES, [Erased(name.encode(), T0, False)])
    store.write([], {"erasures": 1}, erasures)
    for number in erasures.touched:
        store.compact(number)
    eventually_blocking(lambda: name.encode() not in everything_in(tmp_path))
    store.close()
    assert name.encode() not in everything_in(tmp_path)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_record_sealed_with_another_key_is_not_read() -> None:
    other = Pseudonyms(PrivacySettings(hash_key="not the key of these tests"))
    fields = {"recipient_hash": "x", "sealed": other.seal(ANN), "forgotten_at_ms": T0}
    value = CODEC.encode("erasure", fields)
    assert read_erasure(CODEC, other, value) == Erased(ANN.encode(), T0, False)
    with pytest.raises(DecodeError, match="hash_key"):
        read_erasure(CODEC, NAMES, value)
