"""Events over HTTP, down to the records in Kafka and to what the decide step says of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.codec import Codec
from streams.partitioning import partition_of_recipient
from tests.api.world import PARTITIONS, Client, World, new_id, running_api
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("api")]
CREATED = 1_700_000_000_000
CODEC = Codec()


def event(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": new_id("e"),
        "recipient_id": new_id(),
        "category": "message",
        "created_at_ms": CREATED,
        **fields,
    }


async def records(world: World, topic: str) -> list[Any]:
    """Every record of a topic, with its place."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.settings.engine.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        while any([await consumer.position(p) < ends[p] for p in places]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def of_recipient(world: World, topic: str, recipient_id: str) -> list[Any]:
    return [r for r in await records(world, topic) if r.key == recipient_id.encode()]


async def test_an_accepted_event_is_in_its_lane_on_its_partition(
    client: Client, world: World
) -> None:
    sent = event(data={"a": "1"}, collapse_key="k")
    answer = await client.ask("POST", "/v1/events", sent)
    assert answer.status == 202, answer.text
    assert answer.json == {"index": 0, "status": 202, "event_id": sent["event_id"]}
    (found,) = await of_recipient(world, topics.EVENTS_NORMAL, sent["recipient_id"])
    assert found.partition == partition_of_recipient(sent["recipient_id"], PARTITIONS)
    decoded = CODEC.decode("event", found.value)
    assert {name: decoded[name] for name in sent} == sent


@pytest.mark.parametrize(
    ("category", "priority", "topic"),
    [
        ("message", None, topics.EVENTS_NORMAL),
        ("message", "critical", topics.EVENTS_NORMAL),  # an event never raises it
        ("message", "bulk", topics.EVENTS_BULK),
        ("security", None, topics.EVENTS_CRITICAL),
        ("security", "bulk", topics.EVENTS_BULK),
        ("marketing", "normal", topics.EVENTS_BULK),
    ],
)
async def test_the_lane_is_the_category_s_lowered_by_the_event_s(
    client: Client, world: World, category: str, priority: str | None, topic: str
) -> None:
    sent = event(category=category, priority=priority)
    assert (await client.ask("POST", "/v1/events", sent)).status == 202
    assert len(await of_recipient(world, topic, sent["recipient_id"])) == 1


async def test_a_batch_is_answered_item_by_item(client: Client, world: World) -> None:
    good, other = event(), event()
    batch = [
        good,
        event(category="mesage"),
        {"event_id": "x", "recipient_id": "r", "category": "message"},
        event(colapse_key="k"),
        event(event_id="x" * 257),
        {**good, "data": {"changed": "yes"}},
        other,
        17,
        event(expires_at_ms=-1),
        event(data={"n": 1}),
    ]
    answer = await client.ask("POST", "/v1/events", batch)
    assert answer.status == 207
    items = answer.json["items"]
    assert [item["status"] for item in items] == [202, 422, 422, 422, 422, 409, 202, 422, 422, 422]
    assert [item["index"] for item in items] == list(range(10))
    assert (answer.json["accepted"], answer.json["refused"]) == (2, 8)
    assert "message" in items[1]["problem"]["detail"]
    assert items[1]["problem"]["errors"][0]["pointer"] == "/category"
    assert "created_at_ms" in items[2]["problem"]["detail"]
    assert "did you mean collapse_key?" in items[3]["problem"]["detail"]
    assert len(await of_recipient(world, topics.EVENTS_NORMAL, good["recipient_id"])) == 1


async def test_a_thousand_events_and_not_one_more(client: Client, world: World) -> None:
    recipient_id = new_id()
    batch = [event(recipient_id=recipient_id) for _ in range(1_000)]
    answer = await client.ask("POST", "/v1/events", batch)
    assert answer.status == 202
    assert answer.json["accepted"] == 1_000
    found = await of_recipient(world, topics.EVENTS_NORMAL, recipient_id)
    in_order = [CODEC.decode("event", record.value)["event_id"] for record in found]
    assert in_order == [each["event_id"] for each in batch]
    refused = await client.ask("POST", "/v1/events", [*batch, event()])
    assert (refused.status, refused.problem) == (413, "too_large")


async def test_the_same_id_again_is_accepted_once_and_another_payload_is_a_conflict(
    client: Client, world: World
) -> None:
    sent = event()
    assert (await client.ask("POST", "/v1/events", sent)).status == 202
    again = await client.ask("POST", "/v1/events", sent)
    assert (again.status, again.json["repeated"]) == (202, True)
    other = await client.ask("POST", "/v1/events", {**sent, "data": {"a": "2"}})
    assert (other.status, other.problem) == (409, "conflict")
    # The same id for another recipient is another event.
    assert (
        await client.ask("POST", "/v1/events", {**sent, "recipient_id": new_id()})
    ).status == 202
    assert len(await of_recipient(world, topics.EVENTS_NORMAL, sent["recipient_id"])) == 1


async def test_an_idempotency_key_repeats_its_answer_and_makes_ids(
    client: Client, world: World
) -> None:
    sent = event()
    del sent["event_id"]
    headers = {"Idempotency-Key": new_id("key")}
    first = await client.ask("POST", "/v1/events", sent, headers=headers)
    assert first.status == 202
    assert (await client.ask("POST", "/v1/events", sent, headers=headers)).body == first.body
    other = await client.ask("POST", "/v1/events", event(), headers=headers)
    assert (other.status, other.problem) == (422, "key_reused")
    without = await client.ask("POST", "/v1/events", sent)
    assert (without.status, without.problem) == (422, "invalid")
    assert len(await of_recipient(world, topics.EVENTS_NORMAL, sent["recipient_id"])) == 1


async def test_another_process_makes_the_same_id_and_knows_conflicts_from_the_owner(
    client: Client, world: World
) -> None:
    sent = event()
    del sent["event_id"]
    headers = {"Idempotency-Key": new_id("key")}
    first = await client.ask("POST", "/v1/events", sent, headers=headers)
    event_id = first.json["event_id"]
    async with running_api(world.settings, world.folder) as second:

        async def knows() -> bool:
            # Until the first has been decided, the second accepts it again; the core drops it.
            answer = await second.ask("POST", "/v1/events", sent, headers=headers)
            assert answer.status == 202
            assert answer.json["event_id"] == event_id
            other = {**sent, "event_id": event_id, "data": {"a": "2"}}
            fresh = {"Idempotency-Key": new_id("key")}
            return (await second.ask("POST", "/v1/events", other, headers=fresh)).status == 409

        await eventually(knows)
    third = {"Idempotency-Key": new_id("key")}
    async with running_api(world.settings, world.folder) as another:
        again = {**sent, "event_id": event_id}
        answer = await another.ask("POST", "/v1/events", again, headers=third)
        assert (answer.status, answer.json["repeated"]) == (202, True)


@pytest.mark.parametrize(
    ("body", "kind", "status", "problem"),
    [
        (b"", "application/json", 400, "malformed"),
        (b"{", "application/json", 400, "malformed"),
        (b"[]", "application/json", 422, "invalid"),
        (b"\xff\xfe", "application/json", 400, "malformed"),
        (b'{"event_id":"\\ud800"}', "application/json", 400, "malformed"),
        (b"[" * 10_000, "application/json", 400, "malformed"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
    ],
)
async def test_what_is_no_event_is_told_so(
    client: Client, body: bytes, kind: str, status: int, problem: str
) -> None:
    answer = await client.ask("POST", "/v1/events", body=body, kind=kind)
    assert (answer.status, answer.problem) == (status, problem)
    assert answer.json["detail"]


async def test_texts_that_are_not_utf8_are_refused_item_by_item(client: Client) -> None:
    bad = json.dumps(event()).encode().replace(b"message", b"mess\xffage")
    lone = json.dumps(event(actor_id="\ud800")).encode()
    batch = b"[" + b",".join([bad, lone, json.dumps(event()).encode()]) + b"]"
    answer = await client.ask("POST", "/v1/events", body=batch)
    assert answer.status in (207, 400)
    if answer.status == 207:
        assert [item["status"] for item in answer.json["items"]] == [400, 400, 202]


async def test_every_accepted_event_is_decided_once(client: Client, world: World) -> None:
    sent = [event() for _ in range(20)]
    answers = await asyncio.gather(
        *(client.ask("POST", "/v1/events", each) for each in sent for _ in range(3))
    )
    assert {answer.status for answer in answers} == {202}

    async def verdicts() -> bool:
        decided: dict[str, list[str]] = {}
        for record in await records(world, topics.DECISIONS):
            for entry in CODEC.decode("decision", record.value)["entries"]:
                decided.setdefault(entry["event_id"], []).append(entry["verdict"])
        mine = [[v for v in decided.get(e["event_id"], []) if v != "duplicate"] for e in sent]
        return all(len(each) == 1 for each in mine)

    await eventually(verdicts)
