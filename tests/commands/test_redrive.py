"""``flowstate redrive``: which dead letters come back, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.codec import Codec
from streams.commands.redrive import RedrivePlan, no_such_reason, plan_redrive
from streams.core.model import Delivery, DigestItem, Source, struct_to_dict
from tests.conftest import KafkaTopics, RunningBroker

CODEC = Codec(None)
DELIVERY = Delivery(
    delivery_id="001" + "a" * 29, notification_id="001" + "b" * 29, recipient_id="ann",
    category="message", priority="normal", channel="sms", kind="sms", destination_id="phone",
    address="+12025550123", attributes={}, registered_at_ms=1, template="message", locale="en",
    data={"who": "Bob"}, event_id=None, digest_key="message", count=2, actors=1,
    items=(DigestItem("e1", 5, "bob", {"who": "Bob"}),), collapse_key=None, step=0, attempt=8,
    epoch=2, created_at_ms=5, appended_at_ms=6, decided_at_ms=7, valid_until_ms=8,
    expires_at_ms=9, on_ambiguous="resend", campaign=None, policy_version="v1",
)  # fmt: skip


def letter(**fields: Any) -> dict[str, Any]:
    return {
        "recipient_id": None, "topic": "events.normal", "partition": 0, "offset": 3,
        "timestamp_ms": 5, "key": b"ann", "value": b"\x07x", "headers": [], "reason": "bad_magic",
        "detail": "", "delivery": None, "dead_at_ms": 6,
    } | fields  # fmt: skip


def exhausted(epoch: int) -> dict[str, Any]:
    delivery = struct_to_dict(DELIVERY) | {"epoch": epoch}
    return letter(
        recipient_id="ann", topic="feedback", reason="attempts_exhausted", delivery=delivery
    )


class DeadLetters:
    """A topic of dead letters of this test's own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.client = {"bootstrap_servers": bootstrap}
        self.topic = topic

    async def write(self, *letters: Mapping[str, Any]) -> None:
        async with AIOKafkaProducer(**self.client) as producer:
            for one in letters:
                await producer.send_and_wait(self.topic, CODEC.encode_dead_letter(one), b"ann")

    async def plan(self, **wanted: str) -> RedrivePlan:
        return await plan_redrive(self.client, **wanted, topic=self.topic)


@pytest.fixture
async def letters(broker: RunningBroker, kafka_topics: KafkaTopics) -> DeadLetters:
    return DeadLetters(broker.bootstrap, await kafka_topics.create("dead-letters"))


@pytest.mark.broker
async def test_a_delivery_comes_back_with_its_ids_and_the_next_epoch(letters: DeadLetters) -> None:
    await letters.write(exhausted(epoch=2), exhausted(epoch=3))
    plan = await letters.plan()
    (again,) = plan.again
    assert (again.topic, again.partition, again.key) == (topics.FEEDBACK, 0, b"ann")
    feedback = CODEC.decode_feedback(again.value, Source(topics.FEEDBACK, 0, 0, 0))
    assert feedback.status == "redrive"
    assert (feedback.delivery.epoch, feedback.delivery.attempt) == (4, 0)
    assert feedback.delivery.delivery_id == DELIVERY.delivery_id
    assert feedback.delivery.items == DELIVERY.items
    assert plan.passed_over == 1


@pytest.mark.broker
async def test_a_record_goes_back_to_its_own_place_as_it_was(letters: DeadLetters) -> None:
    await letters.write(letter(), letter(topic="outcomes"))
    plan = await letters.plan()
    (again,) = plan.again
    assert (again.topic, again.partition) == ("events.normal", 0)
    assert (again.key, again.value) == (b"ann", b"\x07x")
    assert plan.passed_over == 1


@pytest.mark.broker
async def test_only_what_was_asked_for(letters: DeadLetters) -> None:
    await letters.write(letter(), letter(reason="unknown_schema"), exhausted(epoch=0))
    assert (await letters.plan(reason="unknown_schema")).reasons == {"unknown_schema": 1}
    assert (await letters.plan(recipient_id="ann")).reasons == {"attempts_exhausted": 1}
    assert not (await letters.plan(recipient_id="bob")).reasons
    every = {"bad_magic": 1, "unknown_schema": 1, "attempts_exhausted": 1}
    assert (await letters.plan(reason="nothing_so")).seen == every
    assert (await letters.plan(reason="x", recipient_id="ann")).seen == {"attempts_exhausted": 1}


def test_a_reason_that_none_has_is_told_with_those_there_are() -> None:
    said = str(no_such_reason("atempts_exhausted", {"bad_magic": 3, "attempts_exhausted": 1_200}))
    assert "'atempts_exhausted'; did you mean \"attempts_exhausted\"?" in said
    assert "There are: attempts_exhausted (1,200), bad_magic (3)." in said
    known = str(no_such_reason("no_provider", {}))
    assert "did you mean" not in known
    assert "There are: none at all." in known
