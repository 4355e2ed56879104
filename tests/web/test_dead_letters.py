"""Dead letters as the page reads them: backwards, page by page, each once; and trying again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from streams.codec import Codec
from streams.core.model import struct_to_dict
from streams.dead_letters import CAUSES
from streams.engine.settings import EngineSettings
from streams.redrive import Again
from streams.web.console import redriving
from streams.web.console.dead_letter_log import DeadLetterLog
from tests.commands.test_redrive import DELIVERY, letter
from tests.conftest import KafkaTopics, RunningBroker
from tests.web.console_world import ConsoleWorld, running_console

pytestmark = pytest.mark.broker
CODEC = Codec(None)
PARTITIONS = 2
LETTERS = 23


@pytest.fixture
async def log(
    broker: RunningBroker, kafka_topics: KafkaTopics
) -> AsyncIterator[tuple[DeadLetterLog, str]]:
    topic = await kafka_topics.create("dead-letters", PARTITIONS)
    engine = EngineSettings(bootstrap=broker.bootstrap, partitions=PARTITIONS)
    made = DeadLetterLog(engine, PARTITIONS, topic)
    yield made, topic
    await made.stop()


async def fill(bootstrap: str, topic: str, letters: Sequence[dict[str, Any]]) -> None:
    """In transactions of one, so that there are markers between the letters."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"t-{topic}")
    await producer.start()
    for number, fields in enumerate(letters):
        async with producer.transaction():
            value = CODEC.encode("dead_letter", fields)
            await producer.send(topic, value, partition=number % 3 % PARTITIONS)
    await producer.stop()


async def test_pages_have_every_letter_once_newest_first(
    broker: RunningBroker, log: tuple[DeadLetterLog, str]
) -> None:
    reader, topic = log
    await fill(broker.bootstrap, topic, [letter(offset=n) for n in range(LETTERS)])
    seen: list[int] = []
    ends: dict[int, int] | None = None
    for _ in range(60):
        look = await reader.before(ends, 5)
        taken = look.newest(5)
        seen += [CODEC.decode("dead_letter", one.value)["offset"] for one in taken]
        ends = look.rest(taken)
        if not ends:
            break
    assert sorted(seen) == list(range(LETTERS))
    assert seen[0] == LETTERS - 1
    assert seen == sorted(seen, reverse=True)


async def test_letters_are_found_by_their_place(
    broker: RunningBroker, log: tuple[DeadLetterLog, str]
) -> None:
    reader, topic = log
    await fill(broker.bootstrap, topic, [letter(offset=n) for n in range(4)])
    look = await reader.before(None, 50)
    places = [(one.partition, one.offset) for one in look.letters]
    assert [(one.partition, one.offset) for one in await reader.at(places)] == places
    assert await reader.at([(0, 10_000)]) == []


@pytest.fixture
async def world(
    broker: RunningBroker,
    log: tuple[DeadLetterLog, str],
    tmp_path: Path,
) -> AsyncIterator[ConsoleWorld]:
    exhausted = letter(
        recipient_id="ann", topic="feedback", reason="attempts_exhausted",
        delivery=struct_to_dict(DELIVERY),
    )  # fmt: skip
    lost = letter(topic="deliveries.sms", reason="bad_magic")
    await fill(broker.bootstrap, log[1], [letter(), exhausted, lost])
    async with running_console(tmp_path) as running:
        running.console._letters.log = log[0]
        yield running


async def test_a_letter_is_tried_again_after_a_second_look(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Again] = []

    async def keep(records: Sequence[Again], client: Any) -> int:
        sent.extend(records)
        return len(records)

    monkeypatch.setattr(redriving, "send_again", keep)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(world.url, cookie_jar=jar) as session:
        async with session.get("/dead-letters", headers={"Accept": "text/html"}) as answer:
            html = await answer.text()
        places = re.findall(r'name="place" value="([^"]+)"', html)
        assert len(places) == 2, "one of the three has no way back"
        assert ("open", "dead letters", "ann", None) in world.looks.kept
        fields = [("form_token", _token(html)), *(("place", place) for place in places)]
        async with session.post("/dead-letters/confirm", data=fields) as answer:
            html = await answer.text()
        assert "Try 2 again?" in html
        assert sent == [], "nothing is done by looking"
        fields[0] = ("form_token", _token(html))
        async with session.post("/dead-letters/redrive", data=fields) as answer:
            assert "2 sent to be tried again" in await answer.text()
    assert sorted(again.topic for again in sent) == ["events.normal", "feedback"]


async def test_letters_are_filtered_and_shown_as_what_they_are(world: ConsoleWorld) -> None:
    async with aiohttp.ClientSession(world.url) as session:
        async with session.get("/dead-letters.json?reason=attempts_exhausted") as answer:
            page = await answer.json()
        (one,) = page["letters"]
        assert (one["kind"], one["recipient_id"], one["can_redrive"]) == ("delivery", "ann", True)
        assert one["decoded"]["address"] == DELIVERY.address
        assert one["sentence"] == CAUSES["attempts_exhausted"].meaning
        async with session.get("/dead-letters.json?recipient=nobody") as answer:
            page = await answer.json()
        assert (page["letters"], page["scanned"], page["cursor"]) == ([], 3, None)
        async with session.get("/dead-letters.json?cursor=x") as answer:
            assert answer.status == 422


def _token(html: str) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', html)
    assert found is not None, html
    return found[1]
