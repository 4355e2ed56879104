"""Making and checking topics on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics
from streams.engine.topics_admin import (
    INPUT_RECORD_BYTES,
    TopicsWrong,
    check_partition_counts,
    check_topics,
    cluster_id,
    config_of,
    create_topics,
)
from streams.topics import TopicSpec

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("engine")]


@pytest.fixture
async def specs(broker: Any) -> AsyncIterator[list[TopicSpec]]:
    name = uuid.uuid4().hex[:8]
    made = [
        TopicSpec(f"events-{name}", "", None),
        TopicSpec(f"state-{name}", "", None, "compact", None, append_time=False),
        TopicSpec(f"switch-{name}", "", None, "compact", None, "one"),
    ]
    yield made
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([spec.name for spec in made])
    await admin.close()


def test_inputs_take_small_records_and_dead_letters_large_ones() -> None:
    large = {
        spec.name
        for spec in topics.SPECS
        if int(config_of(spec, stream_time=False)["max.message.bytes"]) > INPUT_RECORD_BYTES
    }
    assert large.isdisjoint(topics.FROM_OUTSIDE)
    assert large >= {
        topics.DEAD_LETTERS,
        topics.FEEDBACK,
        topics.STATE_CHANGELOG,
        *topics.DELIVERIES,
    }


@pytest.mark.parametrize("stream_time", [False, True])
async def test_what_was_made_is_right(
    broker: Any, specs: list[TopicSpec], stream_time: bool
) -> None:
    created = await create_topics(broker.bootstrap, specs, 3, 1, stream_time)
    assert sorted(created) == sorted(spec.name for spec in specs)
    assert await create_topics(broker.bootstrap, specs, 3, 1, stream_time) == []
    assert await check_topics(broker.bootstrap, specs, 3, stream_time) == []


async def test_every_difference_is_named(broker: Any, specs: list[TopicSpec]) -> None:
    events, state, switch = specs
    wrong = TopicSpec(state.name, "", None, "delete", 24, append_time=True)
    await create_topics(broker.bootstrap, [events, wrong], 2, 1, stream_time=False)
    problems = "\n".join(await check_topics(broker.bootstrap, specs, 3, stream_time=False))
    assert f"{events.name} has 2 partitions instead of 3" in problems
    assert f"{state.name} has cleanup.policy=delete instead of compact" in problems
    assert f"{state.name} has message.timestamp.type=LogAppendTime" in problems
    assert f"{switch.name} does not exist" in problems


async def test_topics_that_expire_are_refused_in_stream_time(
    broker: Any, specs: list[TopicSpec]
) -> None:
    await create_topics(broker.bootstrap, specs[:1], 1, 1, stream_time=False)
    problems = await check_topics(broker.bootstrap, specs[:1], 1, stream_time=True)
    assert any("retention.ms" in problem for problem in problems)


async def test_counts_of_topics_without_a_spec(broker: Any, specs: list[TopicSpec]) -> None:
    await create_topics(broker.bootstrap, specs[:1], 2, 1, stream_time=False)
    name = specs[0].name
    assert await check_partition_counts(broker.bootstrap, [name], 2) == []
    problems = await check_partition_counts(broker.bootstrap, [name, "nowhere"], 3)
    assert problems == [
        f"topic {name} has 2 partitions instead of 3",
        "topic nowhere does not exist",
    ]


async def test_a_refusal_is_told(broker: Any, specs: list[TopicSpec]) -> None:
    with pytest.raises(TopicsWrong, match="replication"):
        await create_topics(broker.bootstrap, specs, 1, 3, stream_time=False)


async def test_a_cluster_has_an_id(broker: Any) -> None:
    assert len(await cluster_id(broker.bootstrap)) > 10
