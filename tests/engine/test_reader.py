"""The shared reader and a runner's context on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams.engine.follower import Followers
from streams.engine.reader import SharedReader, TakenRecord, wait_for_arrival
from streams.engine.roles import Follow
from streams.engine.settings import EngineSettings
from streams.engine.topics_admin import TopicsWrong
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("engine")]


def fail(error: BaseException) -> None:
    raise AssertionError(error)


@pytest.fixture
def settings(broker: Any) -> EngineSettings:
    return EngineSettings(bootstrap=broker.bootstrap, fetch_wait_ms=20)


@pytest.fixture
async def reader(settings: EngineSettings) -> AsyncIterator[SharedReader]:
    reader = SharedReader("test", settings, fail)
    await reader.start()
    yield reader
    await reader.stop()


@pytest.fixture
async def producer(settings: EngineSettings) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    yield producer
    await producer.stop()


async def take(reader: SharedReader, tp: TopicPartition, count: int) -> list[bytes]:
    """``count`` values, in as many drains as it takes."""
    values: list[bytes] = []

    async def enough() -> bool:
        values.extend(record.value or b"" for record in reader.drain(tp, count - len(values)))
        if len(values) < count:
            await wait_for_arrival([reader], 0.2)
        return len(values) >= count

    await eventually(enough)
    return values


async def fill(producer: Any, topic: str, count: int, partition: int = 0) -> list[bytes]:
    values = [b"%d" % number for number in range(count)]
    for value in values:
        await producer.send(topic, value=value, partition=partition)
    await producer.flush()
    return values


async def test_a_taken_record_is_a_small_one_with_all_that_was_sent(
    reader: SharedReader, producer: Any, kafka_topics: Any
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    await producer.send_and_wait(
        tp.topic, b"value", b"key", partition=0, timestamp_ms=1_700, headers=[("a", b"1")]
    )
    reader.add({tp: 0})
    taken: list[Any] = []

    async def arrived() -> bool:
        taken.extend(reader.drain(tp, 1))
        return bool(taken)

    await eventually(arrived)
    sent = TakenRecord(tp.topic, 0, 0, 1_700, b"key", b"value", (("a", b"1"),))
    assert taken == [sent]


async def test_each_record_is_taken_once_in_order(
    reader: SharedReader, producer: Any, kafka_topics: Any
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    values = await fill(producer, tp.topic, 100)
    reader.add({tp: 0})
    assert await take(reader, tp, 30) == values[:30]
    assert reader.position(tp) == 30
    assert await take(reader, tp, 70) == values[30:]
    assert (reader.position(tp), reader.stable_end(tp)) == (100, 100)
    assert reader.drain(tp, 10) == []


async def test_positions_survive_a_change_of_partitions(
    reader: SharedReader, producer: Any, kafka_topics: Any
) -> None:
    topic = await kafka_topics.create(partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    values = await fill(producer, topic, 50)
    await fill(producer, topic, 50, partition=1)
    reader.add({first: 0})
    assert await take(reader, first, 20) == values[:20]
    reader.add({second: None})
    assert await take(reader, first, 20) == values[20:40]
    assert reader.drain(second, 10) == []
    reader.seek(second, 45)
    assert await take(reader, second, 5) == values[45:]
    reader.remove([second])
    assert await take(reader, first, 10) == values[40:]
    reader.remove([first])
    assert reader.assigned() == frozenset()
    reader.add({first: 48})
    assert await take(reader, first, 2) == values[48:]


async def test_a_seek_forgets_what_was_fetched(
    reader: SharedReader, producer: Any, kafka_topics: Any
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    values = await fill(producer, tp.topic, 50)
    reader.add({tp: 0})
    assert await take(reader, tp, 10) == values[:10]
    assert reader.at_hand(tp)
    reader.seek(tp, 40)
    assert not reader.at_hand(tp)
    assert await take(reader, tp, 10) == values[40:]
    reader.seek(tp, 0)
    assert await take(reader, tp, 50) == values


async def test_aborted_and_open_transactions_are_not_seen_and_markers_are_passed(
    reader: SharedReader, settings: EngineSettings, kafka_topics: Any
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap, transactional_id=f"{tp.topic}-writer"
    )
    await producer.start()
    reader.add({tp: 0})
    for value, commit in ((b"no", False), (b"yes", True)):
        await producer.begin_transaction()
        await producer.send_and_wait(tp.topic, value)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    assert await take(reader, tp, 1) == [b"yes"]

    async def at_the_end() -> bool:
        reader.drain(tp, 10)
        return reader.position(tp) == (await reader.end_offsets([tp]))[tp] == 4

    await eventually(at_the_end)
    await producer.begin_transaction()
    await producer.send_and_wait(tp.topic, b"open")
    assert (await reader.end_offsets([tp]))[tp] == 4
    await producer.abort_transaction()
    await producer.stop()


async def test_a_position_that_is_not_in_the_log_is_an_error(
    reader: SharedReader, kafka_topics: Any
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    reader.add({tp: 99})

    async def raised() -> bool:
        try:
            reader.drain(tp, 1)
        except OffsetOutOfRangeError:
            return True
        await wait_for_arrival([reader], 0.2)
        return False

    await eventually(raised)


async def test_one_large_partition_does_not_hold_up_another(
    reader: SharedReader, producer: Any, kafka_topics: Any
) -> None:
    """The first partition is buffered and never drained; the second keeps coming."""
    topic = await kafka_topics.create(partitions=2)
    bulk, critical = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await fill(producer, topic, 100)
    reader.add({bulk: 0, critical: 0})
    await eventually(lambda: reader.at_hand(bulk))
    for number in range(20):
        await producer.send_and_wait(topic, value=b"%d" % number, partition=1)
        assert await take(reader, critical, 1) == [b"%d" % number]


async def test_a_reader_whose_fetches_end_says_so(settings: EngineSettings) -> None:
    deaths: list[BaseException] = []
    reader = SharedReader("dying", settings, deaths.append)
    await reader.start()
    reader._consumer._fetcher._fetch_task.cancel()
    await eventually(lambda: deaths)
    reader._stopping = True
    await reader.stop()


async def test_followed_topics_are_read_whole_and_then_followed(
    settings: EngineSettings, producer: Any, kafka_topics: Any
) -> None:
    topic = await kafka_topics.create(partitions=1)
    values = await fill(producer, topic, 30)
    seen: list[bytes] = []
    followers = Followers(
        [Follow(topic, lambda record: seen.append(record.value or b""))], settings, fail
    )
    await followers.start()
    assert seen == values
    await producer.send_and_wait(topic, value=b"later")
    await eventually(lambda: seen[-1] == b"later")
    await followers.stop()


async def test_a_followed_topic_that_is_not_there_stops_the_start(settings: EngineSettings) -> None:
    """Without its topic no kill switch would ever be seen."""
    followers = Followers([Follow("no-such-topic", lambda record: None)], settings, fail)
    with pytest.raises(TopicsWrong, match="no-such-topic"):
        await followers.start()
    await followers.stop()


async def test_an_error_in_a_followers_callback_is_told(
    settings: EngineSettings, producer: Any, kafka_topics: Any
) -> None:
    topic = await kafka_topics.create(partitions=1)
    deaths: list[BaseException] = []

    def on_record(record: Any) -> None:
        raise LookupError("a bug")

    followers = Followers([Follow(topic, on_record)], settings, deaths.append)
    await followers.start()
    await producer.send_and_wait(topic, value=b"x")
    await eventually(lambda: deaths)
    assert isinstance(deaths[0], LookupError)
    await followers.stop()
