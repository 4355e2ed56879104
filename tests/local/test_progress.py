"""Lag and rest, from positions and ends."""

from __future__ import annotations

from streams import topics
from streams.local.progress import Progress, ProgressReader
from tests.conftest import RunningBroker

ENDS = {("events.normal", 0): 10, ("deliveries.sms", 0): 4, ("decisions", 0): 12}


def progress(decide: int, deliver: int, ledger: int) -> Progress:
    return Progress(
        ENDS,
        {
            "decide": {("events.normal", 0): decide},
            "deliver": {("deliveries.sms", 0): deliver},
            "ledger": {("decisions", 0): ledger},
        },
    )


def test_lag_is_what_a_role_has_still_to_read() -> None:
    look = progress(decide=7, deliver=4, ledger=0)
    assert (look.lag("decide"), look.lag("deliver"), look.lag("ledger")) == (3, 0, 12)
    assert look.finished("decide", topics.EVENTS) == 7
    assert look.end(topics.EVENTS) == 10


def test_rest_is_when_nobody_has_anything_left() -> None:
    assert progress(10, 4, 12).at_rest()
    assert not progress(10, 4, 11).at_rest()


def test_what_was_never_committed_is_all_lag() -> None:
    assert Progress(ENDS, {"decide": {}, "deliver": {}, "ledger": {}}).lag("decide") == 10


def test_a_position_past_an_end_read_earlier_is_no_lag() -> None:
    assert progress(11, 4, 12).lag("decide") == 0


async def test_a_reader_that_read_nothing_is_closed(broker: RunningBroker) -> None:
    async with ProgressReader({"bootstrap_servers": broker.bootstrap}, partitions=1):
        pass
