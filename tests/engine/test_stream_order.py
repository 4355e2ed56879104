"""Stream mode: merged by time, up to the tick, whatever was fetched first."""

from __future__ import annotations

import random
from typing import Any

from streams.engine.roles import Lane
from streams.engine.stream_order import StreamOrder
from tests.engine.fakes import FakeLogs

CONTROL = Lane("control", ("preferences", "ticks"), records_max=100)
LANES = (
    Lane("critical", ("critical",), 10),
    Lane("normal", ("normal",), 10),
    Lane("bulk", ("bulk",), 10),
)


def order_of(logs: FakeLogs, records_max: int = 100) -> StreamOrder:
    context: Any = logs
    return StreamOrder(context, CONTROL, LANES, "ticks", records_max)


async def times(order: StreamOrder) -> list[tuple[str, int]]:
    """(topic, time) of the next batch."""
    taken = await order.take(0)
    return [(record.topic, record.timestamp) for record in taken.records]


async def test_records_up_to_the_tick_come_in_order_of_time() -> None:
    logs = FakeLogs()
    for at in (10, 40):
        logs.append("bulk", at)
    for at in (20, 30, 60):
        logs.append("normal", at)
    logs.append("critical", 30)
    logs.append("ticks", 50)
    assert await times(order_of(logs)) == [
        ("bulk", 10), ("normal", 20), ("critical", 30), ("normal", 30), ("bulk", 40), ("ticks", 50),
    ]  # fmt: skip


async def test_later_records_wait_for_the_next_tick() -> None:
    logs = FakeLogs()
    logs.append("normal", 60)
    order = order_of(logs)
    assert await times(order) == []
    logs.append("ticks", 59)
    assert await times(order) == [("ticks", 59)]
    logs.append("ticks", 60)
    assert await times(order) == [("normal", 60), ("ticks", 60)]


async def test_an_earlier_record_that_is_not_fetched_yet_is_waited_for() -> None:
    """The bulk topic has a record before the tick, but its fetch is late."""
    logs = FakeLogs()
    logs.append("bulk", 5, hidden=True)
    logs.append("normal", 10)
    logs.append("ticks", 50)
    order = order_of(logs)
    assert await times(order) == []
    logs.fetch()
    assert await times(order) == [("bulk", 5), ("normal", 10), ("ticks", 50)]


async def test_positions_cover_what_was_returned_and_no_more() -> None:
    logs = FakeLogs()
    for at in (1, 2, 90):
        logs.append("normal", at)
    logs.append("ticks", 50)
    taken = await order_of(logs).take(0)
    assert taken.positions == {"normal": 2, "ticks": 1}


async def test_control_comes_first_and_is_not_ordered_by_time() -> None:
    logs = FakeLogs()
    logs.append("normal", 10)
    logs.append("ticks", 50)
    logs.append("preferences", 9_999)
    order = order_of(logs)
    assert (await times(order))[0] == ("preferences", 9_999)


async def test_without_ticks_it_moves_when_nothing_arrives_for_long(monkeypatch: Any) -> None:
    now_s = 100.0
    monkeypatch.setattr("streams.engine.stream_order.time.monotonic", lambda: now_s)
    logs = FakeLogs(stream_idle_ms=5_000)
    logs.append("normal", 10)
    order = order_of(logs)
    assert await times(order) == []
    now_s += 4.9
    assert await times(order) == []
    logs.append("bulk", 7)
    now_s += 4.9
    assert await times(order) == []
    now_s += 5.1
    assert await times(order) == [("bulk", 7), ("normal", 10)]


async def test_the_order_does_not_depend_on_the_fetches() -> None:
    """Same logs, fetched in 20 random ways (the seeds are the numbers): one order."""
    orders = set()
    for seed in range(20):
        rng = random.Random(seed)
        logs = FakeLogs()
        for at in range(0, 60, 2):
            topic = ("critical", "normal", "bulk")[at % 3]
            logs.append(topic, at, hidden=True)
        logs.append("ticks", 70)
        order = order_of(logs, records_max=rng.randrange(1, 20))
        seen: list[tuple[str, int]] = []
        for _ in range(300):
            seen += await times(order)
            topic = rng.choice(("critical", "normal", "bulk"))
            logs.hidden[topic] = max(0, logs.hidden.get(topic, 0) - rng.randrange(3))
        assert len(seen) == 31, seed
        orders.add(tuple(seen))
    assert len(orders) == 1
