"""How transactions ended, asked of a real coordinator; and telling it again where nobody heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams.engine import transaction
from streams.engine.api import Output
from streams.engine.clients import client_settings
from streams.engine.crash_points import CrashPoints
from streams.engine.endings import Ending, Endings
from streams.engine.settings import EngineSettings
from streams.engine.transaction import PartitionProducer
from tests.engine.harness import read_all
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]
OTHERS = 3
VERIFICATION = "transaction.partition.verification.enable"


class Stage:
    """Two topics, owners of their only partition, and a third that has more partitions."""

    def __init__(self, settings: EngineSettings, topic: str, changelog: str, other: str) -> None:
        self.settings = settings
        self.topic = topic
        self.changelog = changelog
        self.other = other
        self.told: list[int] = []

    def owner(self) -> PartitionProducer:
        """Somebody who takes the partition over when started."""
        return PartitionProducer(
            "decide", 0, self.settings, CrashPoints(""), (self.topic, self.changelog),
            (self.other,), self.told.append,
        )  # fmt: skip

    async def latest(self, transactional_id: str) -> Ending | None:
        """How it ended, says the coordinator."""
        async with Endings.opened(self.settings, "test") as endings:
            return await endings.latest(transactional_id)

    async def ends(self) -> dict[str, int]:
        """Last stable offset by topic."""
        consumer = AIOKafkaConsumer(
            **client_settings(self.settings, "ends"), isolation_level="read_committed"
        )
        await consumer.start()
        try:
            places = [TopicPartition(name, 0) for name in (self.topic, self.changelog)]
            found = await consumer.end_offsets(places)
            return {place.topic: offset for place, offset in found.items()}
        finally:
            await consumer.stop()

    async def seen(self, topic: str) -> list[bytes | None]:
        """What readers see of a topic."""
        count = OTHERS if topic == self.other else 1
        settings = msgspec.structs.replace(self.settings, partitions=count)
        return [record.value for record in await read_all(settings, topic)]

    async def unheard(self, ending: Ending, place: TopicPartition) -> None:
        """An owner whose transaction ended so, of which one of its partitions never heard.

        What a broker forgets is made here by never telling the coordinator of the partition.
        """
        producer: Any = AIOKafkaProducer(
            **client_settings(self.settings, "unheard"),
            transactional_id=self.owner().transactional_id,
        )
        await producer.start()
        await producer.begin_transaction()
        producer._txn_manager._txn_partitions.add(place)
        await producer.send_and_wait(place.topic, b"unheard", b"k", partition=place.partition)
        await producer.send_and_wait(self.changelog, b"state", b"k", partition=0)
        if ending == "committed":
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
        await producer.stop()


@pytest.fixture
async def stage(broker: Any, kafka_topics: Any) -> Stage:
    """Fresh topics."""
    topic, changelog = await kafka_topics.create("out"), await kafka_topics.create("changelog")
    other = await kafka_topics.create("other", OTHERS)
    settings = EngineSettings(bootstrap=broker.bootstrap, application=topic, partitions=1)
    return Stage(settings, topic, changelog, other)


@pytest.fixture
async def credulous(broker: Any) -> AsyncIterator[None]:
    """The broker takes a producer's word that a partition belongs to its transaction."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def verify(value: str | None) -> None:
        change = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(VERIFICATION, value or "", incremental_operation=change)
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(10)

    verify("false")
    yield
    verify(None)


async def test_the_coordinator_says_how_it_ended(stage: Stage) -> None:
    owner = stage.owner()
    assert await stage.latest(owner.transactional_id) is None
    await owner.start()
    assert await stage.latest(owner.transactional_id) is None
    await owner.write([Output(stage.topic, b"k", b"1")], stage.changelog, [(b"k", b"1")])
    assert await stage.latest(owner.transactional_id) == "committed"
    await owner.stop()
    producer: Any = AIOKafkaProducer(
        **client_settings(stage.settings, "open"), transactional_id=owner.transactional_id
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(stage.topic, b"2", b"k", partition=0)
    assert await stage.latest(owner.transactional_id) == "aborted"
    await producer.abort_transaction()
    assert await stage.latest(owner.transactional_id) == "aborted"
    await producer.stop()


async def test_where_all_have_heard_nothing_is_told(stage: Stage) -> None:
    first, second = stage.owner(), stage.owner()
    await first.start()
    await first.write([], stage.changelog, [(b"k", b"1")])
    assert await stage.latest(first.transactional_id) == "committed"
    assert await stage.ends() == {stage.topic: 0, stage.changelog: 2}
    await first.stop()
    await second.start()
    assert await stage.ends() == {stage.topic: 0, stage.changelog: 2}
    assert stage.told == []
    output = Output(stage.topic, b"k", b"2")
    assert await second.write([output], stage.changelog, [(b"k", b"2")]) == 4
    await second.stop()
    assert await stage.seen(stage.topic) == [b"2"]


@pytest.mark.parametrize("ending", ["committed", "aborted"])
@pytest.mark.usefixtures("credulous")
async def test_what_a_partition_never_heard_of_ends_as_it_had(stage: Stage, ending: Ending) -> None:
    place = TopicPartition(stage.topic, 0)
    await stage.unheard(ending, place)
    async with Endings.opened(stage.settings, "test") as endings:
        await endings.latest(stage.owner().transactional_id)
        assert await endings.hanging([stage.topic, stage.changelog]) == [place]
    heir = stage.owner()
    await heir.start()
    expected = [b"unheard"] if ending == "committed" else []
    assert await stage.seen(stage.topic) == expected
    await heir.write([Output(stage.topic, b"k", b"next")], stage.changelog, [(b"k", b"2")])
    await heir.heard()
    await heir.stop()
    assert await stage.seen(stage.topic) == [*expected, b"next"]


@pytest.fixture
def forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[Any]]:
    """Makes an owner whose first transaction a partition never hears of, though it is committed."""
    monkeypatch.setattr(transaction, "TELL_AGAIN_S", 0.1)

    async def owner() -> Any:
        one: Any = stage.owner()
        await one.start()
        manager = one._producer._txn_manager
        add = manager.maybe_add_partition_to_txn

        def forget(place: TopicPartition) -> None:
            manager._txn_partitions.add(place) if place.topic == stage.topic else add(place)

        manager.maybe_add_partition_to_txn = forget
        await one.write([Output(stage.topic, b"k", b"1")], stage.changelog, [(b"k", b"1")])
        manager.maybe_add_partition_to_txn = add
        assert await stage.seen(stage.topic) == []
        return one

    return owner


@pytest.mark.usefixtures("credulous")
async def test_who_lives_through_it_tells_it_again_before_the_next(
    stage: Stage, forgotten: Callable[[], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await forgotten()
    writes = owner._producer.begin_transaction

    async def begin() -> None:
        assert await stage.seen(stage.topic) == ([b"1"] if told else [])
        told.append(True)
        await writes()

    told: list[bool] = []
    monkeypatch.setattr(owner._producer, "begin_transaction", begin)
    await owner.write([Output(stage.topic, b"k", b"2")], stage.changelog, [(b"k", b"2")])
    await owner.heard()
    await owner.stop()
    assert len(told) == 2
    assert await stage.seen(stage.topic) == [b"1", b"2"]
    assert stage.told == [1]


@pytest.mark.usefixtures("credulous")
async def test_who_has_nothing_to_write_tells_it_again_too(
    stage: Stage, forgotten: Callable[[], Awaitable[Any]]
) -> None:
    owner = await forgotten()

    async def told() -> bool:
        await owner.look_whether_heard()
        return await stage.seen(stage.topic) == [b"1"]

    await eventually(told)
    await owner.stop()


@pytest.mark.usefixtures("credulous")
async def test_other_partitions_hear_of_it_where_something_hangs(stage: Stage) -> None:
    await stage.unheard("committed", TopicPartition(stage.other, 2))
    assert await stage.seen(stage.other) == []
    heir = stage.owner()
    await heir.start()
    assert await stage.seen(stage.other) == [b"unheard"]
    await heir.stop()


@pytest.mark.usefixtures("credulous")
async def test_an_end_that_is_lost_again_is_told_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heir that took the loss of its own marker for another's transaction went on, and the next
    abort became the end of what had been committed."""
    await stage.unheard("committed", TopicPartition(stage.other, 2))
    heir: Any = stage.owner()
    tell, lost = heir._tell_again, list[Any]()

    async def tell_again(ending: Ending, places: list[TopicPartition]) -> None:
        if len(lost) == 2:
            await tell(ending, places)
        else:
            lost.append(places)

    monkeypatch.setattr(heir, "_tell_again", tell_again)
    await heir.start()
    assert lost == 2 * [[TopicPartition(stage.other, 2)]]
    assert await stage.seen(stage.other) == [b"unheard"]
    await heir.stop()


async def test_what_another_has_open_is_neither_told_nor_waited_for(stage: Stage) -> None:
    """It hides what is behind it from readers, and that ours has its end too."""
    stranger: Any = AIOKafkaProducer(
        **client_settings(stage.settings, "stranger"), transactional_id=f"{stage.other}-stranger"
    )
    await stranger.start()
    await stranger.begin_transaction()
    await stranger.send_and_wait(stage.other, b"open", b"k", partition=1)
    owner, heir = stage.owner(), stage.owner()
    await owner.start()
    for number in (b"1", b"2"):
        output = Output(stage.other, b"k", number, 1)
        await asyncio.wait_for(owner.write([output], stage.changelog, [(b"k", number)]), 10)
    await asyncio.wait_for(owner.heard(), 10)
    await owner.stop()
    await asyncio.wait_for(heir.start(), 20)
    await heir.stop()
    assert stage.told == []
    await stranger.commit_transaction()
    await stranger.stop()

    async def seen() -> bool:
        return await stage.seen(stage.other) == [b"open", b"1", b"2"]

    await eventually(seen)
