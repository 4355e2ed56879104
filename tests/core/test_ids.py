"""Identifiers: the same ones in every release, since what is stored and sent is known by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import ids
from tests.core.build import MINUTE
from tests.core.profiles import tries

QUARTER = 15 * MINUTE


def test_ids_are_the_same_in_every_release() -> None:
    event = ids.event_digest("e1", "ana")
    assert event.hex() == "f6538ffc7aad778afc3c9f528497a4a6"
    assert ids.to_id(1, event) == "001f6538ffc7aad778afc3c9f528497a"
    assert ids.delivery_id(4_095, "n1", "push", "phone", 2) == "fff75b7a4e43934e670e4ec23cb23704"
    assert (
        ids.digest_id(0, "ana", "message", "key", 1_772_366_400_000, "e1")
        == "00098d6ac679b178cd0e0dd4fddc91a5"
    )
    assert ids.hash8("bob").hex() == "74f32b2bb966a492"


def test_an_id_has_32_digits_and_begins_with_its_partition() -> None:
    for partition, prefix in ((0, "000"), (10, "00a"), (4_095, "fff")):
        made = ids.to_id(partition, ids.digest16("x"))
        assert len(made) == 32
        assert made.startswith(prefix)
        assert made[3:] == ids.digest16("x").hex()[:29]
        assert ids.partition_of(made) == partition
    with pytest.raises(IndexError):
        ids.to_id(4_096, ids.digest16("x"))


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0" * 31 + "g", "xyz" + "0" * 29])
def test_what_is_no_id_has_no_partition(text: str) -> None:
    with pytest.raises(ValueError, match=r"id has 32 hex digits|invalid literal"):
        ids.partition_of(text)


def test_every_part_of_a_name_counts_and_so_do_their_borders() -> None:
    deliveries = {
        ids.delivery_id(1, *names)
        for names in (
            ("n", "c", "d", 0), ("m", "c", "d", 0), ("n", "e", "d", 0), ("n", "c", "f", 0),
            ("n", "c", "d", 1), ("nc", "", "d", 0), ("n", "cd", "", 0),
        )
    }  # fmt: skip
    assert len(deliveries) == 7
    digests = {
        ids.digest_id(1, *names)
        for names in (
            ("r", "c", "k", 1, "e"), ("s", "c", "k", 1, "e"), ("r", "d", "k", 1, "e"),
            ("r", "c", "l", 1, "e"), ("r", "c", "k", 2, "e"), ("r", "c", "k", 1, "f"),
        )
    }  # fmt: skip
    assert len(digests) == 6


def test_jitter_is_below_its_bound_and_reaches_all_of_it() -> None:
    assert {ids.jitter(f"k{n}", 4) for n in range(100)} == {0, 1, 2, 3}
    assert {ids.jitter(f"k{n}", 2) for n in range(100)} == {0, 1}
    assert {ids.jitter(f"k{n}", below) for n in range(100) for below in (1, 0, -1, -5)} == {0}


@given(
    st.integers(0, 3 * QUARTER),
    st.integers(-5, 20 * MINUTE),
    st.integers(0, 20 * MINUTE),
    st.sampled_from((0, 1, 2 * MINUTE)),
    st.integers(0, 50),
)
@tries(200)
def test_a_spread_keeps_to_its_room_and_off_the_quarter_hour(
    at_ms: int, room_ms: int, span_ms: int, lead_ms: int, number: int
) -> None:
    found = ids.spread(at_ms, room_ms, f"r{number}", span_ms, lead_ms)
    late_ms = found - at_ms
    assert late_ms >= 0
    assert late_ms < max(1, room_ms)
    into_ms = at_ms % QUARTER
    until_free_ms = max(0, lead_ms - into_ms)
    if until_free_ms < room_ms:
        assert until_free_ms <= late_ms < until_free_ms + max(1, span_ms)
    else:
        assert late_ms < max(1, span_ms)


def test_a_spread_uses_all_of_its_span_and_of_its_room() -> None:
    names = [f"r{number}" for number in range(60)]
    assert {ids.spread(QUARTER, 100, name, 3, 10) for name in names} == {
        QUARTER + 10 + late for late in range(3)
    }
    assert {ids.spread(QUARTER + 9, 100, name, 2, 10) - QUARTER for name in names} == {10, 11}
    assert {ids.spread(QUARTER + 10, 100, name, 2, 10) - QUARTER for name in names} == {10, 11}
    assert {ids.spread(QUARTER, 12, name, 9, 10) - QUARTER for name in names} == {10, 11}
    assert {ids.spread(QUARTER, 11, name, 9, 10) - QUARTER for name in names} == {10}
    assert {ids.spread(QUARTER, 10, name, 3, 10) - QUARTER for name in names} == {0, 1, 2}
