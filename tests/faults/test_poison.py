"""Rows 12 and 13: records that nobody can read, and producers of other versions."""

from __future__ import annotations

import copy
import io
import json
import time
from collections import Counter
from typing import Any

import aiohttp
import fastavro
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams import topics
from streams.codec import DecodeError
from streams.engine.topics_admin import LARGE_RECORD_BYTES, config_of
from streams.local.garbage import garbage
from streams.local.registry import SchemaRegistry
from streams.wire.contracts import load_contracts
from tests.faults.site import PARTITIONS, Site, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
BOMB_ITEMS = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
"""A count of 2**62 - 1 entries, as Avro writes it."""
OLD_FIELDS = ("event_id", "recipient_id", "category", "created_at_ms")
"""What an event of a much older producer has."""


def poison(header: bytes, draw: Any) -> dict[str, bytes]:
    """Name -> bytes, for an event topic."""
    text = b"\x02a"
    return {
        "bad magic": b"\x07" + draw.randbytes(40),
        "empty": b"",
        "JSON": b'{"event_id": "1"}',
        "unknown fingerprint": b"\xc3\x01" + draw.randbytes(30),
        "unknown registry id": b"\x00" + (999_999).to_bytes(4, "big") + draw.randbytes(20),
        "cut short": header + b"\x20college-",
        "Avro bomb, a text of exabytes": header + BOMB_ITEMS,
        "Avro bomb, a map without end": header + text * 3 + b"\x02" + b"\x00" + BOMB_ITEMS,
        "1 MB": header + draw.randbytes(1_000_000),
        "5 MB": header + draw.randbytes(5_000_000),
    }


@pytest.mark.faults_short
@pytest.mark.row("12", "poison in every topic, and records on the wrong partition")
async def test_poison(site: Site, verdict: Any) -> None:
    await take_large_records(site)
    await site.everybody()
    contracts = load_contracts()
    headers = {name: contract.header for name, contract in contracts.current.items()}
    sent: list[tuple[str, int, int]] = []
    async with under_load(site):
        for number in range(PARTITIONS):
            for topic in topics.EVENTS:
                for value in poison(headers["event"], site.load.draw).values():
                    sent += await place(site, topic, b"somebody", value, number)
        for one in garbage(site.seed, headers):
            sent += await place(site, one.topic, one.key.encode(), one.value, 1)
        for kind in ("apns", "sms"):
            for junk in (b"\x07junk", site.load.draw.randbytes(5_000_000)):
                sent += await place(site, topics.deliveries(kind), b"somebody", junk, 2)
        wrong = [site.load.event() for _ in range(40)]
        for event in wrong:
            value = site.codec.encode("event", event)
            # Nobody knows this key here: it is forwarded to where its recipient lives.
            event["partition"] = site.load.draw.randrange(PARTITIONS)
            await site.load.send_bytes(
                topics.EVENTS_NORMAL, event["recipient_id"].encode(), value, event["partition"]
            )
        named = await under_names(site)
        await site.running_again(time.monotonic())
    evidence = await site.settled()
    finding = await site.judge(evidence)
    buried = Counter(
        (letter["topic"], letter["partition"], letter["offset"])
        for record in evidence.of((topics.DEAD_LETTERS,))
        for letter in [site.codec.decode("dead_letter", record.value)]
    )
    lost = [where for where in sent if buried[where] != 1]
    if lost:
        finding.faults.append(f"{len(lost)} of {len(sent)} have not one dead letter: {lost[:3]}")
    if len(buried) > len(sent):
        finding.faults.append(f"{len(buried) - len(sent)} others are dead letters too")
    decided = {
        event.event_id
        for record in evidence.of(topics.EVENTS)
        if record.value
        for event in readable(site, record.value)
    }
    if missing := {event["event_id"] for event in wrong} - decided:
        finding.faults.append(f"{len(missing)} events of a wrong partition are gone")
    heard = {
        entry["event_id"]
        for record in evidence.of((topics.DECISIONS,))
        for entry in site.codec.decode("decision", record.value)["entries"]
    }
    if missing := named - heard:
        finding.faults.append(f"{len(missing)} events with odd headers were not decided")
    await verdict(finding)


async def take_large_records(site: Site) -> None:
    """Event topics as an older release made them: they take what nobody here needs."""
    large = {"max.message.bytes": str(LARGE_RECORD_BYTES)}
    specs = [topics.BY_NAME[topic] for topic in topics.EVENTS]
    admin = AIOKafkaAdminClient(bootstrap_servers=site.broker.bootstrap)
    await admin.start()
    try:
        # What is not named goes back to the broker's own.
        await admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC, spec.name, config_of(spec, stream_time=False) | large
                )
                for spec in specs
            ]
        )
    finally:
        await admin.close()


async def under_names(site: Site) -> set[str]:
    """Sends events whose headers have names that no text has; their ids."""
    ids: set[str] = set()
    for topic in topics.EVENTS:
        for name in (b"\xff\xfe", b"", b"traceparent\xc3"):
            event = site.load.event()
            ids.add(event["event_id"])
            value = site.codec.encode("event", event)
            await site.load.send_under_names(topic, event["recipient_id"].encode(), {name: value})
    return ids


def readable(site: Site, value: bytes) -> list[Any]:
    """The event in it, if there is one."""
    try:
        return [site.codec.decode_event(value)]
    except DecodeError:
        return []


async def place(
    site: Site, topic: str, key: bytes, value: bytes, partition: int
) -> list[tuple[str, int, int]]:
    """Sends bytes; where they are."""
    before = len(site.load.acknowledged)
    await site.load.send_bytes(topic, key, value, partition)
    return [at for at in site.load.acknowledged[before:] if at[:2] == (topic, partition)][-1:]


# --------------------------------------------------------------------------- other versions


def versions() -> dict[str, dict[str, Any]]:
    """Event schemas of an older and a newer producer, and one that nobody can read as ours."""
    ours = load_contracts().current["event"].schema
    old, new, alien = copy.deepcopy(ours), copy.deepcopy(ours), copy.deepcopy(ours)
    old["fields"] = [field for field in old["fields"] if field["name"] in OLD_FIELDS]
    new["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "New."})
    alien["fields"] = [field for field in alien["fields"] if field["name"] != "event_id"]
    return {"old": old, "new": new, "alien": alien}


async def register(url: str, schema: dict[str, Any]) -> tuple[int, int]:
    """(status, id) of registering a schema for events, as a producer's serializer does."""
    body = {"schema": json.dumps(schema)}
    where = f"{url}/subjects/{topics.EVENTS_NORMAL}-value/versions"
    async with aiohttp.ClientSession() as client, client.post(where, json=body) as answer:
        said = await answer.json(content_type=None)
    return answer.status, int(said.get("id", 0))


def written(schema: dict[str, Any], schema_id: int, event: dict[str, Any]) -> bytes:
    """A value as a producer with this schema writes it, in the Confluent wire format."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(schema)), event)
    return b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()


@pytest.mark.row("13", "producers of an older, a newer and an incompatible version; a rollback")
async def test_schema_versions(site: Site, verdict: Any) -> None:
    registry = SchemaRegistry(site.folder / "registry", port=site.registry_port)
    await registry.start()
    try:
        site.configure(registry={"url": registry.url})
        await site.everybody()
        schemas = versions()
        ids = {name: (await register(registry.url, schemas[name]))[1] for name in ("old", "new")}
        status, _ = await register(registry.url, schemas["alien"])
        events: list[dict[str, Any]] = []

        async def send(name: str, number: int) -> None:
            for _ in range(number):
                event = {**site.load.event(category="message"), "mood": "good"}
                events.append(event)
                value = written(schemas[name], ids[name], event)
                await site.load.send_bytes(
                    topics.EVENTS_NORMAL, event["recipient_id"].encode(), value
                )

        async with under_load(site):
            await send("old", 30)
            await send("new", 30)
            for name in ("old", "new") * 10:  # both are out there at the same time
                await send(name, 1)
            await send("old", 30)  # the new one is rolled back
            alien_id = await registered_without_check(registry.url, schemas["alien"])
            for _ in range(5):
                value = written(schemas["alien"], alien_id, site.load.event())
                await site.load.send_bytes(topics.EVENTS_NORMAL, b"somebody", value)
            await site.running_again(time.monotonic())
        evidence = await site.settled()
        finding = await site.judge(evidence, replay=False)
    finally:
        await registry.stop()
    if status != 409:
        finding.faults.append(f"the registry answered {status} to an incompatible schema")
    reasons = Counter(
        site.codec.decode("dead_letter", record.value)["reason"]
        for record in evidence.of((topics.DEAD_LETTERS,))
    )
    if reasons != {"incompatible_schema": 5}:
        finding.faults.append(f"dead letters: {dict(reasons)}")
    decided = {
        entry["event_id"]
        for record in evidence.of((topics.DECISIONS,))
        for entry in site.codec.decode("decision", record.value)["entries"]
    }
    if missing := {event["event_id"] for event in events} - decided:
        finding.faults.append(f"{len(missing)} events of other versions were not decided")
    await verdict(finding)


async def registered_without_check(url: str, schema: dict[str, Any]) -> int:
    """Registers whatever it is: somebody has turned the registry's checks off."""
    where = f"{url}/config/{topics.EVENTS_NORMAL}-value"
    none = {"compatibility": "NONE"}
    async with aiohttp.ClientSession() as client, client.put(where, json=none) as answer:
        assert answer.status == 200, await answer.text()
    return (await register(url, schema))[1]
