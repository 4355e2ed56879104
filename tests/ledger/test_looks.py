"""The record of looks: what is written, and what happens when it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streams.codec import Codec
from streams.engine.log_writer import NotWritten, OutRecord, Placed, Written
from streams.engine.settings import EngineSettings
from streams.ledger.looks import LookNotRecorded, Looks
from streams.partitioning import partition_for
from streams.privacy import PrivacySettings, Pseudonyms

ENGINE = EngineSettings(bootstrap="nowhere:1", partitions=4)
PRIVACY = PrivacySettings(hash_key="a key of these tests alone")


class FakeWriter:
    """What ``Looks`` needs of a ``LogWriter``."""

    def __init__(self, answer: Written) -> None:
        self.answer = answer
        self.records: list[OutRecord] = []

    async def write(self, records: Sequence[OutRecord]) -> list[Written]:
        self.records += records
        return [self.answer] * len(records)


def looks_to(writer: Any) -> Looks:
    return Looks(ENGINE, PRIVACY, Codec(), writer=writer, now_ms=lambda: 17)


async def test_a_look_names_the_key_and_hashes_the_recipient() -> None:
    writer = FakeWriter(Placed("looks", 0, 0))
    await looks_to(writer).note("key-1", "timeline", "ann", subject_id="s", revealed=True)
    (record,) = writer.records
    name = Pseudonyms(PRIVACY).of("ann").hex()
    assert (record.topic, record.key) == ("looks", name.encode())
    assert record.partition == partition_for(name.encode(), 4)
    assert record.value is not None
    assert b"ann" not in record.value
    assert Codec().decode("look", record.value) == {
        "at_ms": 17,
        "who": "key-1",
        "what": "timeline",
        "recipient_hash": name,
        "subject_id": "s",
        "revealed": True,
    }


async def test_a_look_that_cannot_be_recorded_raises() -> None:
    writer = FakeWriter(NotWritten("Kafka is away"))
    with pytest.raises(LookNotRecorded, match="Kafka is away"):
        await looks_to(writer).note("key-1", "timeline", "ann")


def test_a_pseudonym_depends_on_the_key_and_the_id_alone() -> None:
    ann = Pseudonyms(PRIVACY).of("ann")
    assert ann == Pseudonyms(PRIVACY).of("ann") != Pseudonyms(PRIVACY).of("bob")
    assert ann != Pseudonyms(PrivacySettings(hash_key="another key of these tests")).of("ann")
    assert Pseudonyms(PRIVACY).has_key
    assert not Pseudonyms(PrivacySettings()).has_key


def test_the_key_is_never_shown() -> None:
    assert PRIVACY.hash_key not in repr(PRIVACY)
