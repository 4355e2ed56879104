"""The registry answers as Confluent's does, and a stock client works against it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from streams.codec import Codec, DecodeError
from streams.core import model
from streams.engine.api import TemporarilyUnavailable
from streams.local import schema_store
from streams.local.registry import CONTENT_TYPE, FILE_NAME, SchemaRegistry
from streams.local.schema_store import SchemaStore
from streams.topics import SPECS
from streams.wire.contracts import load_contracts

EVENT = load_contracts().current["event"].schema
VALUE = {"event_id": "e", "recipient_id": "r", "category": "message", "created_at_ms": 5}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[SchemaRegistry]:
    running = SchemaRegistry(tmp_path)
    await running.start()
    yield running
    await running.stop()


async def call(
    registry: SchemaRegistry, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    """(status, JSON) of a call; the content type is checked on the way."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, registry.url + path, json=body) as response,
    ):
        assert response.content_type == CONTENT_TYPE
        return response.status, json.loads(await response.read())


def schema_body(schema: Any) -> dict[str, str]:
    return {"schema": json.dumps(schema)}


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "thing", "fields": list(fields)}


A = {"name": "a", "type": "string"}
B = {"name": "b", "type": "string"}
B_DEFAULT = {**B, "default": ""}


async def test_our_schemas_are_there_from_the_start(registry: SchemaRegistry) -> None:
    _, subjects = await call(registry, "GET", "/subjects")
    assert subjects == sorted(f"{spec.name}-value" for spec in SPECS if spec.schema)
    _, latest = await call(registry, "GET", "/subjects/events.normal-value/versions/latest")
    assert json.loads(latest["schema"]) == EVENT
    assert (latest["subject"], latest["version"]) == ("events.normal-value", 1)
    _, by_id = await call(registry, "GET", f"/schemas/ids/{latest['id']}")
    assert by_id == {"schema": latest["schema"]}
    _, users = await call(registry, "GET", f"/schemas/ids/{latest['id']}/versions")
    assert {user["subject"] for user in users} == {
        "events.critical-value", "events.normal-value", "events.bulk-value",
    }  # fmt: skip


async def test_equal_schemas_have_one_id_whatever_their_spelling(registry: SchemaRegistry) -> None:
    first = await call(registry, "POST", "/subjects/x-value/versions", schema_body(record(A)))
    reordered = dict(reversed(list(record(A).items())))
    again = await call(registry, "POST", "/subjects/x-value/versions", schema_body(reordered))
    other = await call(registry, "POST", "/subjects/y-value/versions", schema_body(record(A)))
    assert first[0] == 200
    assert first == again == other
    assert await call(registry, "GET", "/subjects/x-value/versions") == (200, [1])
    _, found = await call(registry, "POST", "/subjects/x-value", schema_body(record(A)))
    assert (found["version"], found["id"]) == (1, first[1]["id"])


async def test_an_incompatible_schema_is_refused_with_409(registry: SchemaRegistry) -> None:
    path = "/subjects/x-value/versions"
    assert (await call(registry, "POST", path, schema_body(record(A))))[0] == 200
    status, answer = await call(registry, "POST", path, schema_body(record(A, B)))
    assert (status, answer["error_code"]) == (409, 409)
    assert "reader_field_missing_default_value" in answer["message"]
    assert (await call(registry, "POST", path, schema_body(record(A, B_DEFAULT))))[0] == 200
    assert await call(registry, "GET", path) == (200, [1, 2])


async def test_no_producer_of_ours_may_leave_out_what_is_needed(registry: SchemaRegistry) -> None:
    schema = load_contracts().current["event"].schema
    for left_out, expected in (("event_id", 409), ("campaign", 200)):
        fields = [field for field in schema["fields"] if field["name"] != left_out]
        body = {"schema": json.dumps({**schema, "fields": fields})}
        path = "/subjects/events.normal-value/versions"
        assert (await call(registry, "POST", path, body))[0] == expected, left_out


async def test_levels_of_compatibility_are_kept_by_subject(registry: SchemaRegistry) -> None:
    path = "/subjects/x-value/versions"
    await call(registry, "POST", path, schema_body(record(A)))
    assert await call(registry, "GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert (await call(registry, "GET", "/config/x-value"))[1]["error_code"] == 40408
    assert await call(registry, "GET", "/config/x-value?defaultToGlobal=true") == (
        200,
        {"compatibilityLevel": "BACKWARD"},
    )
    body = {"compatibility": "forward"}
    assert await call(registry, "PUT", "/config/x-value", body) == (
        200,
        {"compatibility": "FORWARD"},
    )
    assert (await call(registry, "POST", path, schema_body(record(A, B))))[0] == 200
    status, answer = await call(registry, "POST", path, schema_body(record(B)))
    assert (status, answer["error_code"]) == (409, 409)
    assert (await call(registry, "PUT", "/config", {"compatibility": "NONE"}))[0] == 200
    assert (await call(registry, "POST", "/subjects/y/versions", schema_body(record(A))))[0] == 200
    assert (await call(registry, "POST", "/subjects/y/versions", schema_body(record(B))))[0] == 200
    status, answer = await call(registry, "PUT", "/config", {"compatibility": "SOMEWHAT"})
    assert (status, answer["error_code"]) == (422, 42203)


async def test_transitive_levels_look_at_every_version(registry: SchemaRegistry) -> None:
    text = {"name": "c", "type": "string", "default": ""}
    number = {"name": "c", "type": "long", "default": 0}
    for level, expected in (("BACKWARD", 200), ("BACKWARD_TRANSITIVE", 409)):
        path = f"/subjects/{level}/versions"
        await call(registry, "PUT", f"/config/{level}", {"compatibility": level})
        assert (await call(registry, "POST", path, schema_body(record(A, text))))[0] == 200
        assert (await call(registry, "POST", path, schema_body(record(A))))[0] == 200
        assert (await call(registry, "POST", path, schema_body(record(A, number))))[0] == expected


async def test_compatibility_can_be_asked_without_registering(registry: SchemaRegistry) -> None:
    await call(registry, "POST", "/subjects/x-value/versions", schema_body(record(A)))
    path = "/compatibility/subjects/x-value/versions"
    good, bad = schema_body(record(A, B_DEFAULT)), schema_body(record(A, B))
    assert await call(registry, "POST", f"{path}/latest", good) == (200, {"is_compatible": True})
    assert await call(registry, "POST", f"{path}/1", bad) == (200, {"is_compatible": False})
    _, verbose = await call(registry, "POST", f"{path}?verbose=true", bad)
    assert verbose["is_compatible"] is False
    assert len(verbose["messages"]) == 1
    assert await call(registry, "GET", "/subjects/x-value/versions") == (200, [1])


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/subjects/none/versions", None, 40401),
        ("GET", "/subjects/none/versions/1", None, 40401),
        ("POST", "/subjects/none", schema_body("int"), 40401),
        ("POST", "/compatibility/subjects/none/versions/latest", schema_body("int"), 40401),
        ("GET", "/subjects/receipts-value/versions/7", None, 40402),
        ("GET", "/subjects/receipts-value/versions/first", None, 42202),
        ("GET", "/subjects/receipts-value/versions/0", None, 42202),
        ("GET", "/schemas/ids/999999", None, 40403),
        ("GET", "/schemas/ids/x", None, 40403),
        ("POST", "/subjects/receipts-value", schema_body("int"), 40403),
        ("POST", "/subjects/x/versions", {"schema": "{"}, 42201),
        ("POST", "/subjects/x/versions", {"schema": '{"type": "recrod"}'}, 42201),
        ("POST", "/subjects/x/versions", {"schema": 5}, 42201),
        ("POST", "/subjects/x/versions", {"schema": "[" * 50_000}, 42201),
        ("POST", "/subjects/x/versions", {"schema": "x" * 300_000}, 42201),
        ("POST", "/subjects/x/versions", {**schema_body("int"), "schemaType": "JSON"}, 42201),
        ("POST", "/subjects/x/versions", {**schema_body("int"), "references": [{}]}, 42201),
        ("POST", "/subjects/x/versions", ["no object"], 422),
        ("GET", "/nothing/here", None, 404),
        ("DELETE", "/subjects/x", None, 405),
    ],
)
async def test_refusals_have_confluents_codes(
    registry: SchemaRegistry, method: str, path: str, body: Any, code: int
) -> None:
    status, answer = await call(registry, method, path, body)
    assert (status, answer["error_code"]) == (int(str(code)[:3]), code)
    assert answer["message"]


async def test_small_calls(registry: SchemaRegistry) -> None:
    assert await call(registry, "GET", "/") == (200, {})
    assert await call(registry, "GET", "/mode") == (200, {"mode": "READWRITE"})
    assert await call(registry, "GET", "/schemas/types") == (200, ["AVRO"])
    _, text = await call(registry, "GET", "/subjects/events.normal-value/versions/1/schema")
    assert text == EVENT


async def test_ids_outlive_a_restart(tmp_path: Path) -> None:
    first = SchemaRegistry(tmp_path)
    await first.start()
    await call(first, "POST", "/subjects/x-value/versions", schema_body(record(A)))
    before = [await call(first, "GET", f"/schemas/ids/{number}") for number in range(1, 20)]
    await first.stop()
    second = SchemaRegistry(tmp_path)
    await second.start()
    after = [await call(second, "GET", f"/schemas/ids/{number}") for number in range(1, 20)]
    assert before == after
    assert (await call(second, "GET", "/subjects/x-value/versions"))[1] == [1]
    await second.stop()
    (tmp_path / FILE_NAME).write_text("{damaged")
    with pytest.raises(ValueError, match="damaged"):
        SchemaRegistry(tmp_path)


def test_a_full_registry_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_store, "SCHEMAS_MAX", 1)
    store = SchemaStore(tmp_path / "schemas.json")
    store.register("x", '"int"')
    with pytest.raises(schema_store.StoreError, match="at most 1"):
        store.register("y", '"long"')


def serialize(url: str, schema: Any, value: Any) -> bytes:
    """What a stock producer would send, registering its schema on the way."""
    client = SchemaRegistryClient({"url": url})
    serializer = AvroSerializer(client, json.dumps(schema))
    raw = serializer(value, SerializationContext("events.normal", MessageField.VALUE))
    assert isinstance(raw, bytes)
    return raw


async def test_a_stock_serializer_works_and_the_codec_reads_it(registry: SchemaRegistry) -> None:
    raw = await asyncio.to_thread(serialize, registry.url, EVENT, VALUE)
    codec = Codec(registry.url)
    await codec.prepare([raw])
    assert raw[0] == 0
    assert codec.decode_event(raw) == model.Event("e", "r", "message", 5)
    await codec.close()

    def back() -> Any:
        context = SerializationContext("events.normal", MessageField.VALUE)
        return AvroDeserializer(SchemaRegistryClient({"url": registry.url}))(raw, context)

    assert (await asyncio.to_thread(back))["recipient_id"] == "r"


async def test_a_producer_of_a_newer_release_registers_and_is_read(
    registry: SchemaRegistry,
) -> None:
    newer = {**EVENT, "fields": [*EVENT["fields"], {"name": "t", "type": "string", "default": ""}]}
    raw = await asyncio.to_thread(serialize, registry.url, newer, {**VALUE, "t": "new"})
    codec = Codec(registry.url)
    await codec.prepare([raw])
    assert codec.decode_event(raw) == model.Event("e", "r", "message", 5)
    await codec.close()


async def test_a_producer_with_an_incompatible_schema_is_refused(registry: SchemaRegistry) -> None:
    wrong = {**EVENT, "fields": [*EVENT["fields"], {"name": "t", "type": "string"}]}
    with pytest.raises(SchemaRegistryError) as caught:
        await asyncio.to_thread(serialize, registry.url, wrong, {**VALUE, "t": "new"})
    assert caught.value.http_status_code == 409

    def lookup() -> bool:
        client = SchemaRegistryClient({"url": registry.url})
        return client.test_compatibility("events.normal-value", Schema(json.dumps(wrong), "AVRO"))

    assert await asyncio.to_thread(lookup) is False


async def test_the_codec_waits_for_a_registry_that_is_away(tmp_path: Path) -> None:
    running = SchemaRegistry(tmp_path)
    await running.start()
    raw = await asyncio.to_thread(serialize, running.url, EVENT, VALUE)
    port = int(running.url.rpartition(":")[2])
    await running.stop()
    codec = Codec(running.url)
    with pytest.raises(TemporarilyUnavailable):
        await codec.prepare([raw])
    again = SchemaRegistry(tmp_path, port=port)
    await again.start()
    await codec.prepare([raw, b"\x00\x00\x0f\x42\x3fabc"])
    assert codec.decode_event(raw).event_id == "e"
    with pytest.raises(DecodeError, match="knows no schema 999999"):
        codec.decode_event(b"\x00\x00\x0f\x42\x3fabc")
    await codec.close()
    await again.stop()
