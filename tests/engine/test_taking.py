"""Order of taking, timers and stream time, seen from outside through a running worker."""

from __future__ import annotations

import time

import pytest

from tests.engine.harness import Bench
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]


def fields(record: object) -> list[bytes]:
    """``count:N:TOPIC:OFFSET:NOW`` -> its parts."""
    value: bytes = record.value  # type: ignore[attr-defined]
    return value.split(b":")


async def test_an_acknowledged_opt_out_always_comes_before_the_event(bench: Bench) -> None:
    worker = bench.start()
    await bench.send(bench.names.normal, 1, keys=1)
    await bench.settled(1)
    names = bench.names
    lanes = (names.critical, names.normal, names.bulk)
    for number in range(60):
        key = b"victim-%d" % number
        where = {"key": key, "partition": number % bench.settings.partitions}
        await bench.producer.send_and_wait(names.control, value=b"out", **where)
        await bench.producer.send_and_wait(lanes[number % 3], value=b"x", **where)
    outputs = await bench.settled(61)
    told = [record.value for record in outputs if record.key.startswith(b"victim")]
    assert told == [b"suppressed"] * 60
    assert await worker.stop() == 0


async def test_no_event_is_decided_before_the_first_catch_up(bench: Bench) -> None:
    await bench.send(bench.names.critical, 20)
    await bench.send(bench.names.control, 3_000, keys=20, value=b"in")
    await bench.send(bench.names.control, 20, value=b"out")
    worker = bench.start()
    outputs = await bench.settled(20)
    assert {record.value for record in outputs} == {b"suppressed"}
    assert await worker.stop() == 0


@pytest.mark.parametrize(
    "bench", [{"partitions": 1, "batch_records_max": 100, "bulk_records_max": 100}], indirect=True
)
async def test_critical_overtakes_and_bulk_is_not_starved(bench: Bench) -> None:
    names = bench.names
    await bench.send(names.bulk, 1_000)
    await bench.send(names.normal, 1_000)
    await bench.send(names.critical, 100)
    worker = bench.start()
    outputs = await bench.settled(2_100)
    topics = [fields(record)[2].decode() for record in outputs]
    last = {topic: len(topics) - 1 - topics[::-1].index(topic) for topic in set(topics)}
    first = {topic: topics.index(topic) for topic in set(topics)}
    assert last[names.critical] < 500
    assert first[names.bulk] < last[names.normal]
    bench.check_counts(outputs)
    assert await worker.stop() == 0


async def test_a_due_time_fires_after_a_restart_and_not_before_it(bench: Bench) -> None:
    due_ms = int(time.time() * 1000) + 8_000
    await bench.send(bench.names.normal, 4, keys=4, value=b"due:%d" % due_ms)
    first = bench.start()
    await bench.settled(4)
    assert await first.stop() == 0
    assert len(await bench.outputs()) == 4
    second = bench.start()
    outputs = await bench.settled(8)
    woken = [record for record in outputs if record.value.startswith(b"woken")]
    assert len(woken) == 4
    assert min(record.timestamp for record in woken) >= due_ms
    assert await second.stop() == 0
    assert len(await bench.outputs()) == 8


async def test_due_times_survive_a_kill_between_commit_and_store(bench: Bench) -> None:
    due_ms = int(time.time() * 1000) + 1_500
    await bench.send(bench.names.normal, 4, keys=4, value=b"due:%d" % due_ms)
    first = bench.start(crash_point="before_store_write")
    assert await first.exit_status() == -9
    second = bench.start()
    outputs = await bench.settled(8)
    assert sorted(record.value[:5] for record in outputs) == [b"count"] * 4 + [b"woken"] * 4
    assert await second.stop() == 0


STREAM = {"partitions": 2, "clock": "stream", "batch_records_max": 50, "stream_idle_ms": 600_000}
START_MS = 1_100_000_000_000


async def publish_trace(bench: Bench) -> None:
    """100 s of events, one a second, on lanes in turn, the lanes sent one after the other."""
    names = bench.names
    for lane, topic in enumerate((names.bulk, names.normal, names.critical)):
        for second in range(lane, 100, 3):
            for partition in range(2):
                at = START_MS + second * 1_000
                due = b"due:%d" % (at + 500) if second == 50 else b"x"
                await bench.producer.send_and_wait(
                    topic, key=b"p%d" % partition, value=due, partition=partition,
                    timestamp_ms=at,
                )  # fmt: skip


async def tick(bench: Bench, second: int) -> None:
    for partition in range(2):
        await bench.producer.send_and_wait(
            bench.names.ticks, key=None, value=b"", partition=partition,
            timestamp_ms=START_MS + second * 1_000,
        )  # fmt: skip


@pytest.mark.parametrize("bench", [STREAM], indirect=True)
async def test_stream_time_merges_lanes_up_to_the_tick(bench: Bench) -> None:
    await publish_trace(bench)
    await tick(bench, 49)
    worker = bench.start()
    await bench.settled(100)
    assert len(await bench.outputs()) == 100, "nothing after the tick is decided yet"
    worker.kill()
    again = bench.start()
    await tick(bench, 200)
    outputs = await bench.settled(202)
    for partition in range(2):
        mine = [record for record in outputs if record.partition == partition]
        offsets = [(fields(r)[2], int(fields(r)[3])) for r in mine if r.value[:5] == b"count"]
        names = bench.names
        lanes = [names.bulk.encode(), names.normal.encode(), names.critical.encode()]
        assert offsets == [(lanes[second % 3], second // 3) for second in range(100)]
    woken = [r for r in outputs if r.value.startswith(b"woken")]
    assert {r.value for r in woken} == {b"woken:%d" % (START_MS + 50_500)}
    assert await again.stop() == 0


@pytest.mark.parametrize("bench", [{**STREAM, "stream_idle_ms": 500}], indirect=True)
async def test_stream_time_moves_without_ticks_when_nothing_arrives(bench: Bench) -> None:
    await publish_trace(bench)
    worker = bench.start()
    await bench.settled(200)
    assert await worker.stop() == 0


async def test_group_offsets_show_what_was_done(bench: Bench) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

    await bench.send(bench.names.normal, 40)
    worker = bench.start()
    await bench.settled(40)
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.bootstrap)
    await admin.start()
    group = f"{bench.settings.application}-decide"

    async def committed() -> bool:
        offsets = await admin.list_consumer_group_offsets(group)
        done = [offsets.get(TopicPartition(bench.names.normal, p)) for p in range(2)]
        return [found and found.offset for found in done] == [20, 20]

    try:
        await eventually(committed)
    finally:
        await admin.close()
    assert await worker.stop() == 0
