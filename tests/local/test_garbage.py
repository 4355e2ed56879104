"""Garbage is garbage: no decoder takes it, none of it twice, and the seed gives the bytes."""

from __future__ import annotations

import pytest

from streams import topics
from streams.codec import Codec, DecodeError
from streams.local.garbage import Garbage, garbage

CODEC = Codec(None)
HEADERS = {name: contract.header for name, contract in CODEC.contracts.current.items()}
ALL = garbage(7, HEADERS)


def test_every_topic_that_producers_write_to_gets_one() -> None:
    expected = {*topics.EVENTS, *topics.CONTROL} - {topics.TICKS, topics.ERASURES}
    assert sorted(bad.topic for bad in ALL) == sorted(expected)


def test_each_is_broken_in_its_own_way() -> None:
    assert len({bad.value for bad in ALL}) == len({bad.fault for bad in ALL}) == len(ALL)


@pytest.mark.parametrize("bad", ALL, ids=lambda bad: bad.topic)
def test_no_decoder_takes_it(bad: Garbage) -> None:
    record = topics.BY_NAME[bad.topic].schema
    assert record is not None
    with pytest.raises(DecodeError):
        CODEC.decode(record, bad.value)


def test_the_seed_gives_the_bytes() -> None:
    assert garbage(7, HEADERS) == ALL
    assert garbage(8, HEADERS) != ALL
