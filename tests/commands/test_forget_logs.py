"""What is said of the records that a topic holds of somebody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams import tables, topics
from streams.codec import Codec
from streams.commands.forget_logs import Left, LogsRead, TopicReading
from streams.core.model import Claim
from streams.engine.topics_admin import COMPACTED_WITHIN_HOURS, HOUR_MS

CODEC = Codec()
T0 = 1_700_000_000_000
COMPACTED_BY = T0 + 2 * COMPACTED_WITHIN_HOURS * HOUR_MS
STATE = topics.STATE_CHANGELOG


def claim(owner: str, address: str = "h1") -> bytes:
    return CODEC.encode_claim(Claim(address, owner, "mail", "email", T0))


def read(topic: str, *records: tuple[int, str, bytes | None]) -> LogsRead:
    found = LogsRead()
    reading = TopicReading(topics.BY_NAME[topic], "ann", found)
    for partition, key, value in records:
        one: Any = SimpleNamespace(partition=partition, key=key.encode(), value=value, timestamp=T0)
        reading.take(one)
    reading.close()
    return found


@pytest.mark.parametrize(
    ("records", "left"),
    [
        ([(1, "bob", b"x"), (1, "annika", b"x")], []),
        ([(1, "ann", b"x"), (1, "ann", None)], ["1 records and 1 tombstones"]),
        ([(1, "ann", None)], ["1 tombstones"]),
    ],
)
def test_a_compacted_topic_is_clean_within_two_weeks_of_the_last_tombstone(
    records: list[tuple[int, str, bytes | None]], left: list[str]
) -> None:
    found = read(topics.PREFERENCES, *records)
    assert found.left == [
        Left(topics.PREFERENCES, f"{what}, until the log is compacted", COMPACTED_BY)
        for what in left
    ]
    assert found.records == len(records)


def test_what_is_in_force_in_a_compacted_topic_does_not_go_by_itself() -> None:
    (left,) = read(topics.PREFERENCES, (1, "ann", None), (1, "ann", b"x")).left
    assert left.gone_by_ms is None
    assert "1 in force" in left.what


def test_other_topics_are_clean_when_their_records_are_too_old() -> None:
    (left,) = read(topics.DESTINATIONS, (1, "ann", b"x")).left
    assert left.gone_by_ms == T0 + 30 * 24 * HOUR_MS


def test_claims_are_theirs_by_their_owner_wherever_they_are() -> None:
    found = read(
        topics.DESTINATION_CLAIMS,
        (0, "h1", claim("ann")),
        (1, "h2", claim("ann", "h2")),
        (1, "h2", claim("bob", "h2")),
        (1, "h3", claim("ann", "h3")),
        (1, "h3", None),
        (2, "h4", claim("bob", "h4")),
        (2, "h5", b"not a claim"),
    )
    assert found.claims == {0: {"h1"}, 1: {"h2", "h3"}}
    assert found.standing == {0: {"h1"}}, "the others are somebody else's, or nobody's"
    (left,) = found.left
    assert left.what.startswith("3 records")
    assert left.gone_by_ms is None


def test_claims_in_the_states_changelog_are_found_and_its_other_keys_are_not_taken_for_them() -> (
    None
):
    prefix = tables.CLAIM.decode()
    found = read(
        STATE, (3, f"{prefix}h1", claim("ann")), (3, "pbob", claim("ann")), (3, "pann", b"x")
    )
    assert found.claims == {3: {"h1"}}
    assert found.standing == {}, "that is for the claims' own topic to say"
    (left,) = found.left
    assert left.what.startswith("2 records")
