"""The clients against the running system, over HTTP and over Kafka."""

from __future__ import annotations

import pytest

from streams import topics
from streams.client import (
    Accepted,
    Event,
    HttpClient,
    KafkaClient,
    NotAccepted,
    Preferences,
    Unavailable,
    VersionChanged,
)
from streams.partitioning import partition_of_recipient
from tests.api.test_events import of_recipient
from tests.api.world import PARTITIONS, Client, World, new_id
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("api")]


def event(recipient_id: str, category: str = "message") -> Event:
    return Event(
        event_id=new_id("e"), recipient_id=recipient_id, category=category, created_at_ms=1
    )


async def test_over_http(client: Client) -> None:
    recipient_id = new_id()
    async with HttpClient(client.url) as http:
        good = event(recipient_id)
        answers = await http.send([good, event(recipient_id, "nope"), good])
        assert answers[0] == Accepted(good.event_id)
        assert isinstance(answers[1], NotAccepted)
        assert answers[1].reason == "invalid"
        read = await http.preferences(recipient_id)
        wished = Preferences(zone="Asia/Tokyo", channels={"email": False})
        changed = await http.replace_preferences(recipient_id, wished, read.version)
        assert changed.preferences.zone == "Asia/Tokyo"
        with pytest.raises(VersionChanged):
            await http.replace_preferences(recipient_id, wished, read.version)
        again = await http.change_preferences(recipient_id, {"zone": "UTC"})
        assert again.preferences.channels == {"email": False}
        assert await http.cancel(recipient_id, "never-sent") == "remembered"


async def test_over_kafka_it_lands_where_the_owner_looks(client: Client, world: World) -> None:
    recipient_id = new_id()
    connection = {"bootstrap_servers": world.settings.engine.bootstrap}
    priorities = {c.name: c.priority for c in world.settings.policy.categories.values()}
    async with KafkaClient(connection, priorities) as kafka:
        sent = [event(recipient_id), event(recipient_id, "security")]
        assert await kafka.send(sent) == [Accepted(each.event_id) for each in sent]
        (refused,) = await kafka.send(
            [Event(event_id="e", recipient_id="x", category="message", created_at_ms="now")]  # type: ignore[arg-type]
        )
        assert isinstance(refused, NotAccepted)
        await kafka.replace_preferences(recipient_id, Preferences(zone="Asia/Tokyo"), 1)
        await kafka.cancel(recipient_id, sent[0].event_id, 1)
    for topic in (topics.EVENTS_NORMAL, topics.EVENTS_CRITICAL, topics.PREFERENCES):
        (found,) = await of_recipient(world, topic, recipient_id)
        assert found.partition == partition_of_recipient(recipient_id, PARTITIONS)

    async def is_applied() -> bool:
        answer = await client.ask("GET", f"/v1/recipients/{recipient_id}/preferences")
        return bool(answer.json["preferences"]["zone"] == "Asia/Tokyo")

    await eventually(is_applied)


async def test_without_kafka_the_client_says_so() -> None:
    with pytest.raises(Unavailable):
        async with KafkaClient({"bootstrap_servers": "127.0.0.1:1"}, {}, attempts_max=2):
            pass
