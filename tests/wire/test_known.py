"""Who wrote a value: known by fingerprint, asked of a registry by id, bounded either way."""

from __future__ import annotations

from typing import Any

import pytest

from streams.engine.api import TemporarilyUnavailable
from streams.registry import Answer, RegistryClient
from streams.wire import known
from streams.wire.contracts import confluent_header, load_contracts
from streams.wire.known import REFUSAL_SECONDS, KnownSchemas


class ScriptedRegistry(RegistryClient):
    """Answers from a table; what is not in it is not known; ``away`` refuses to answer."""

    def __init__(self, schemas: dict[int, Any]) -> None:
        super().__init__("http://registry.invalid")
        self.schemas = schemas
        self.away = False
        self.asked: list[int] = []

    async def schema(self, schema_id: int) -> Answer:
        self.asked.append(schema_id)
        if self.away:
            raise TemporarilyUnavailable("away")
        if schema_id in self.schemas:
            return Answer(schema=self.schemas[schema_id])
        return Answer(refusal=f"the registry knows no schema {schema_id}")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(registry: RegistryClient | None) -> tuple[KnownSchemas, list[bytes], Clock]:
    forgotten: list[bytes] = []
    clock = Clock()
    return KnownSchemas(load_contracts(), registry, forgotten.append, clock), forgotten, clock


def value(schema_id: int) -> bytes:
    return confluent_header(schema_id) + b"rest"


async def test_an_id_is_asked_for_once() -> None:
    registry = ScriptedRegistry({7: "int"})
    schemas, _, _ = make(registry)
    await schemas.prepare([value(7), value(7), None, b"", b"\x00\x01", b"\xc3\x01abc"])
    await schemas.prepare([value(7)])
    assert registry.asked == [7]
    assert schemas.writer(confluent_header(7)) == "int"


async def test_an_unknown_id_is_refused_and_asked_again_later() -> None:
    registry = ScriptedRegistry({})
    schemas, _, clock = make(registry)
    await schemas.prepare([value(9)])
    await schemas.prepare([value(9)])
    assert registry.asked == [9]
    assert schemas.why_unknown(confluent_header(9)) == (
        "unknown_schema",
        "the registry knows no schema 9",
    )
    registry.schemas[9] = "long"
    clock.now += REFUSAL_SECONDS
    await schemas.prepare([value(9)])
    assert schemas.writer(confluent_header(9)) == "long"


async def test_a_registry_that_is_away_says_nothing_about_the_record() -> None:
    registry = ScriptedRegistry({1: "int", 2: "long"})
    schemas, _, _ = make(registry)
    await schemas.prepare([value(1)])
    registry.away = True
    await schemas.prepare([value(1)])
    with pytest.raises(TemporarilyUnavailable):
        await schemas.prepare([value(1), value(2)])
    registry.away = False
    await schemas.prepare([value(1), value(2)])
    assert schemas.writer(confluent_header(2)) == "long"


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "REGISTRY_IDS_MAX", 3)
    monkeypatch.setattr(known, "REFUSALS_MAX", 3)
    schemas, forgotten, _ = make(ScriptedRegistry(dict.fromkeys(range(1, 6), "int")))
    await schemas.prepare([value(number) for number in range(1, 21)])
    assert forgotten == [confluent_header(1), confluent_header(2)]
    assert schemas.writer(confluent_header(1)) is None
    assert schemas.writer(confluent_header(5)) == "int"
    assert len(schemas._refusals) == 3


async def test_without_a_registry_an_id_is_refused_at_once() -> None:
    schemas, _, _ = make(None)
    await schemas.prepare([value(3)])
    assert schemas.why_unknown(confluent_header(3))[1] == "schema id 3, and there is no registry"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"\x00\x00", "malformed"),
        (b"\xc3", "malformed"),
        (b"\xc3\x01\x00", "malformed"),
        (b"\xc3\x02" + bytes(8), "bad_magic"),
        (b'{"event_i', "bad_magic"),
        (b"\xc3\x01" + bytes(8), "unknown_schema"),
    ],
)
def test_headers_that_nobody_wrote(header: bytes, code: str) -> None:
    schemas, _, _ = make(None)
    assert schemas.why_unknown(header)[0] == code
