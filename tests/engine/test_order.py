"""Which records make the next batch, on logs in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import msgspec

from streams.engine.order import RECORDS_MIN, Turns, WallOrder
from streams.engine.roles import Lane
from tests.engine.fakes import FakeLogs

CONTROL = Lane("control", ("preferences", "receipts"), records_max=3)
CRITICAL = Lane("critical", ("critical",), records_max=2, urgent=True)
NORMAL = Lane("normal", ("normal",), records_max=4)
BULK = Lane("bulk", ("bulk",), records_max=2, at_once_max=1)
NORMAL_IN_TURN = Lane("normal", ("normal",), records_max=4, at_once_max=1)


def order_of(logs: FakeLogs, turns: Turns | None = None) -> WallOrder:
    context: Any = logs
    return WallOrder(context, CONTROL, (CRITICAL, NORMAL, BULK), {"bulk": turns or Turns(BULK)})


def names(taken: Any) -> list[str]:
    return [f"{record.topic}{record.offset}" for record in taken.records]


async def caught_up(logs: FakeLogs, turns: Turns | None = None) -> WallOrder:
    order = order_of(logs, turns)
    await order.take(0)
    assert order.caught_up
    return order


async def test_control_is_drained_before_the_first_event() -> None:
    logs = FakeLogs()
    for _ in range(5):
        logs.append("preferences")
    logs.append("critical")
    order = order_of(logs)
    assert names(await order.take(0)) == ["preferences0", "preferences1", "preferences2"]
    assert order.caught_up is False
    assert names(await order.take(0)) == ["preferences3", "preferences4"]
    assert bool(order.caught_up)
    assert names(await order.take(0)) == ["critical0"]


async def test_control_that_was_acknowledged_before_an_event_comes_first() -> None:
    """The preference is not fetched yet when the event is: the batch waits for it."""
    logs = FakeLogs()
    order = await caught_up(logs)
    logs.append("preferences", hidden=True)
    logs.append("normal")
    logs.on_wait = logs.fetch
    taken = await order.take(0)
    assert names(taken) == ["preferences0", "normal0"]
    assert taken.positions == {"preferences": 1, "normal": 1}


async def test_control_that_came_in_several_goes_is_in_the_order_of_its_topics() -> None:
    """The fence keeps positions alone: a replay has no other order to go by."""
    logs = FakeLogs()
    order = await caught_up(logs)
    logs.append("receipts")
    logs.append("preferences", hidden=True)
    logs.append("receipts", hidden=True)
    logs.append("normal")
    logs.on_wait = logs.fetch
    taken = await order.take(0)
    assert names(taken) == ["preferences0", "receipts0", "receipts1", "normal0"]


async def test_the_ends_are_asked_for_after_the_events_were_taken() -> None:
    logs = FakeLogs()
    order = await caught_up(logs)
    logs.append("normal")
    taken_before: list[int] = []

    def on_ends() -> None:
        taken_before.append(logs.position("normal"))
        logs.append("preferences")

    logs.on_ends = on_ends
    assert names(await order.take(0)) == ["preferences0", "normal0"]
    assert taken_before == [1]


async def test_held_events_are_covered_only_when_they_are_returned() -> None:
    logs = FakeLogs()
    order = await caught_up(logs)
    for _ in range(4):
        logs.append("receipts")
    logs.append("normal")
    first = await order.take(0)
    assert (names(first), first.positions) == (
        ["receipts0", "receipts1", "receipts2"],
        {"receipts": 3},
    )
    assert order.holding
    second = await order.take(0)
    assert names(second) == ["receipts3", "normal0"]
    assert second.positions == {"receipts": 4, "normal": 1}
    assert not order.holding


async def test_a_control_record_that_does_not_come_blocks_nothing_but_events() -> None:
    logs = FakeLogs()
    order = await caught_up(logs)
    logs.append("preferences", hidden=True)
    logs.append("normal")
    waits = 0

    async def wait(topics: Any, timeout_s: float) -> bool:
        nonlocal waits
        waits += 1
        return False

    logs.wait = wait  # type: ignore[method-assign]
    assert names(await order.take(0)) == []
    assert waits == 1
    assert order.holding
    logs.fetch()
    assert names(await order.take(0)) == ["preferences0", "normal0"]


async def test_each_lane_gives_up_to_its_cap_and_bulk_in_turn() -> None:
    logs = FakeLogs()
    for _ in range(5):
        for topic in ("critical", "normal", "bulk"):
            logs.append(topic)
    order = await caught_up(logs)
    first = await order.take(0)
    assert names(first) == [
        "critical0", "critical1", "normal0", "normal1", "normal2", "normal3",
    ]  # fmt: skip
    await order.batch_done()
    await asyncio.sleep(0)
    assert names(await order.take(0)) == ["critical2", "critical3"]
    await order.batch_done()
    third = await order.take(0)
    assert names(third) == ["critical4", "normal4", "bulk0", "bulk1"]


async def test_the_turn_goes_round() -> None:
    turns = Turns(BULK)
    both = []
    for _ in range(2):
        logs = FakeLogs()
        for _ in range(6):
            logs.append("bulk")
        both.append((logs, await caught_up(logs, turns)))
    took: list[int] = []
    for _ in range(40):
        for number, (_, order) in enumerate(both):
            taken = await order.take(0)
            if taken.records:
                took.append(number)
                await asyncio.sleep(0)
                await order.batch_done()
    assert took == [0, 1, 0, 1, 0, 1]


async def test_a_stopped_partition_gives_its_turn_up() -> None:
    turns = Turns(BULK)
    logs = FakeLogs()
    logs.append("bulk")
    order = await caught_up(logs, turns)
    await order.batch_done()
    await asyncio.sleep(0)
    await order.stop()
    await asyncio.wait_for(turns.wait(), 1)


async def test_a_waiting_partition_that_stops_leaves_the_queue() -> None:
    turns = Turns(BULK)
    await turns.wait()
    logs = FakeLogs()
    logs.append("bulk")
    order = await caught_up(logs, turns)
    await order.batch_done()
    await asyncio.sleep(0)
    await order.stop()
    turns.done()
    await asyncio.wait_for(turns.wait(), 1)


async def test_critical_needs_no_turn_and_normal_waits_for_one() -> None:
    turns = Turns(NORMAL_IN_TURN)
    await turns.wait()
    logs = FakeLogs()
    context: Any = logs
    order = WallOrder(context, CONTROL, (CRITICAL, NORMAL_IN_TURN, BULK), {"normal": turns})
    await order.take(0)
    logs.append("normal")
    assert not names(await order.take(0)), "others have the turns"
    logs.append("critical")
    assert names(await order.take(0)) == ["critical0"]
    await order.batch_done()
    turns.done()
    await asyncio.sleep(0)
    assert names(await order.take(0)) == ["normal0"]


async def test_a_turn_that_comes_during_a_batch_is_kept_for_the_next() -> None:
    turns = Turns(BULK)
    await turns.wait()
    logs = FakeLogs()
    logs.append("bulk")
    order = await caught_up(logs, turns)
    await order.batch_done()
    logs.append("critical")
    assert names(await order.take(0)) == ["critical0"]
    turns.done()
    await asyncio.sleep(0)
    await order.batch_done()
    assert names(await order.take(0)) == ["bulk0"]


async def test_whoever_has_to_wait_keeps_nobody_waiting() -> None:
    """A batch whose writer's schema cannot be had is held, and its turn with it."""
    turns = Turns(BULK)
    logs = FakeLogs()
    logs.append("bulk")
    order = await caught_up(logs, turns)
    await order.batch_done()
    await asyncio.sleep(0)
    assert names(await order.take(0)) == ["bulk0"]
    order.let_others()
    await asyncio.wait_for(turns.wait(), 1)
    await order.batch_done()


async def test_records_gather_after_a_batch_that_took_all_there_was() -> None:
    """For a share of what it took, and not for ever: a commit may hang for seconds."""
    logs = FakeLogs(rest_share=0.5, rest_ms_max=40)
    logs.append("normal")
    order = await caught_up(logs)
    assert names(await order.take(0)) == ["normal0"]
    assert 0.005 <= await seconds_of(order.batch_done(0.01)) < 0.5
    assert 0.04 <= await seconds_of(order.batch_done(30.0)) < 5


async def test_a_backlog_is_not_kept_waiting() -> None:
    logs = FakeLogs(rest_share=1.0, rest_ms_max=600_000)
    for _ in range(5):
        logs.append("normal")
    order = await caught_up(logs)
    assert len(names(await order.take(0))) == NORMAL.records_max
    await asyncio.wait_for(order.batch_done(600.0), 5)


async def seconds_of(what: Awaitable[None]) -> float:
    began = time.monotonic()
    await what
    return time.monotonic() - began


async def test_bulk_leaves_urgent_events_as_much_time_as_it_takes() -> None:
    turns = Turns(msgspec.structs.replace(BULK, rest_share=1.0))
    logs = FakeLogs(rest_share=0.0)
    order = await caught_up(logs, turns)
    for _ in range(12):
        logs.append("bulk")
    await bulk_of(order)
    await order.batch_done(600.0)
    await asyncio.wait_for(bulk_of(order), 0.9)  # Nothing urgent has come: at once.

    logs.append("critical")
    assert names(await order.take(0))[0] == "critical0"
    await order.batch_done(0.05)
    assert await seconds_of(bulk_of(order)) >= 0.05
    await order.batch_done(600.0)
    await asyncio.wait_for(bulk_of(order), 10)  # No rest is longer than a second.


async def bulk_of(order: WallOrder) -> None:
    """Returns when the order has given records of bulk."""
    while "bulk" not in {record.topic for record in (await order.take(0)).records}:
        await order.batch_done()
        await asyncio.sleep(0.001)


SHORT_BULK = Lane("bulk", ("bulk",), records_max=250, at_once_max=1, batch_ms_max=30)


async def test_while_urgent_events_come_a_batch_of_bulk_is_as_short_as_it_should_be() -> None:
    turns = Turns(SHORT_BULK)
    assert turns.records_max() == 250, "nobody is in a hurry"
    turns.note_urgent()
    assert turns.records_max() == RECORDS_MIN, "nothing is known of how long they take"
    seen = (
        (25, 0.01, 75), (75, 0.01, 225), (225, 0.02, 250), (250, 0.06, 125),
        (125, 60.0, RECORDS_MIN), (1, 0.01, RECORDS_MIN),
    )  # fmt: skip
    for records, took_s, fit in seen:
        await turns.wait()
        turns.done(records, took_s)
        assert turns.records_max() == fit


async def test_a_turn_that_gave_nothing_says_nothing_of_how_long_records_take() -> None:
    turns = Turns(SHORT_BULK)
    turns.note_urgent()
    await turns.wait()
    turns.done(100, 0.02)
    await turns.wait()
    turns.done(0, 0.0)
    assert turns.records_max() == 150


async def test_the_order_takes_no_more_of_bulk_than_fits() -> None:
    turns = Turns(SHORT_BULK)
    logs = FakeLogs(rest_share=0.0)
    context: Any = logs
    order = WallOrder(context, CONTROL, (CRITICAL, NORMAL, SHORT_BULK), {"bulk": turns})
    await order.take(0)
    for _ in range(90):
        logs.append("bulk")
    turns.note_urgent()
    await order.batch_done()
    await asyncio.sleep(0)
    assert len((await order.take(0)).records) == RECORDS_MIN
    await order.batch_done(0.015)
    await asyncio.sleep(0)
    assert len((await order.take(0)).records) == 2 * RECORDS_MIN


LONG_NORMAL = Lane(
    "normal", ("normal",), records_max=1_000, at_once_max=1,
    backlog_records_max=4_000, backlog_ms_max=150,
)  # fmt: skip


async def test_while_nothing_urgent_comes_a_batch_is_as_long_as_an_urgent_event_may_wait() -> None:
    turns = Turns(LONG_NORMAL)
    assert turns.records_max() == 1_000, "nothing is known of how long they take"
    seen = (
        (1_000, 0.06, 2_500), (2_500, 0.125, 3_000), (3_000, 0.1, 4_000), (4_000, 0.2, 3_000),
        (3_000, 60.0, 1_000), (3, 0.01, 1_000),
    )  # fmt: skip
    for records, took_s, fit in seen:
        await turns.wait()
        turns.done(records, took_s)
        assert turns.records_max() == fit


async def test_when_an_urgent_event_comes_the_next_batch_is_no_longer_than_it_always_may_be() -> (
    None
):
    turns = Turns(LONG_NORMAL)
    await turns.wait()
    turns.done(1_000, 0.01)
    assert turns.records_max() == 4_000
    turns.note_urgent()
    assert turns.records_max() == 1_000


async def test_what_else_is_in_a_batch_counts_for_how_long_it_is() -> None:
    turns = Turns(LONG_NORMAL)
    await turns.wait()
    turns.done(1_000, 0.05)
    assert turns.records_max(before=0) == 3_000
    assert turns.records_max(before=500) == 2_500
    assert turns.records_max(before=2_900) == 1_000, "but nobody is starved"


async def test_a_lane_without_a_limit_for_a_backlog_has_its_own_always() -> None:
    turns = Turns(NORMAL_IN_TURN)
    await turns.wait()
    turns.done(4, 0.000_001)
    assert turns.records_max() == 4


async def test_the_order_takes_more_of_a_backlog_until_something_urgent_comes() -> None:
    lane = msgspec.structs.replace(NORMAL_IN_TURN, backlog_records_max=9, backlog_ms_max=100)
    turns = Turns(lane)
    logs = FakeLogs(rest_share=0.0)
    context: Any = logs
    order = WallOrder(context, CONTROL, (CRITICAL, lane), {"normal": turns})
    await order.take(0)
    for _ in range(40):
        logs.append("normal")
    sizes: list[int] = []
    for took_s in (0.05, 0.05, 0.05, 0.05, 0.05):
        if len(sizes) == 3:
            logs.append("critical")
        await order.batch_done(took_s)
        await asyncio.sleep(0)
        sizes.append(len((await order.take(0)).records))
    assert sizes == [4, 8, 9, 1, 4], "urgent alone, and then no more than always"


async def test_a_lane_leaves_room_for_what_is_before_it_in_the_batch() -> None:
    lane = msgspec.structs.replace(BULK, backlog_records_max=9, backlog_ms_max=100)
    turns = Turns(lane)
    logs = FakeLogs(rest_share=0.0)
    order = await caught_up(logs, turns)
    await turns.wait()
    turns.done(10, 0.1)
    for _ in range(12):
        logs.append("bulk")
    for _ in range(3):
        logs.append("normal")
    await order.batch_done()
    await asyncio.sleep(0)
    assert names(await order.take(0)) == [
        "normal0", "normal1", "normal2", *(f"bulk{number}" for number in range(7)),
    ]  # fmt: skip


async def test_behind_a_full_batch_urgent_events_go_alone_and_then_what_waits() -> None:
    logs = FakeLogs()
    order = await caught_up(logs)
    for _ in range(12):
        logs.append("normal")
    logs.append("critical")
    first = await order.take(0)
    assert names(first) == ["critical0", "normal0", "normal1", "normal2", "normal3"]
    await order.batch_done(0.01)
    for _ in range(3):
        logs.append("critical")
    alone = await order.take(0)
    assert (names(alone), alone.positions) == (["critical1", "critical2"], {"critical": 3})
    await order.batch_done(0.01)
    both = await order.take(0)
    assert names(both) == ["critical3", "normal4", "normal5", "normal6", "normal7"], (
        "urgent events come all the time: what waits is not passed over twice"
    )


async def test_what_is_not_behind_a_full_batch_shares_its_transaction() -> None:
    logs = FakeLogs()
    order = await caught_up(logs)
    for _ in range(2):
        logs.append("normal")
        logs.append("critical")
        taken = await order.take(0)
        assert {record.topic for record in taken.records} == {"critical", "normal"}
        await order.batch_done(0.0)
