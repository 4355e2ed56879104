"""Compiled writers write, byte for byte, what fastavro writes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.wire import writer as writer_module
from streams.wire.primitives import encode_long, read_long
from streams.wire.writer import compile_writer
from tests.wire.avro_strategies import encoded


class Item(msgspec.Struct, frozen=True):
    name: str
    tags: dict[str, str]


class Thing(msgspec.Struct, frozen=True):
    category: str
    text: str
    maybe: str | None
    number: int
    ratio: float
    sure: bool
    data: bytes
    items: tuple[Item, ...]
    campaign: str | None
    lists: dict[str, tuple[str, ...]]
    color: str


ITEM = {
    "type": "record",
    "name": "item",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
    ],
}
THING = {
    "type": "record",
    "name": "thing",
    "fields": [
        {"name": "category", "type": "string"},
        {"name": "text", "type": "string"},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "number", "type": "long"},
        {"name": "ratio", "type": "double"},
        {"name": "sure", "type": "boolean"},
        {"name": "data", "type": "bytes"},
        {"name": "items", "type": {"type": "array", "items": ITEM}},
        {"name": "campaign", "type": ["null", "string"]},
        {
            "name": "lists",
            "type": {"type": "map", "values": {"type": "array", "items": "string"}},
        },
        {"name": "color", "type": {"type": "enum", "name": "color", "symbols": ["RED", "BLUE"]}},
    ],
}
texts = st.text(max_size=300)
longs = st.integers(-(2**63), 2**63 - 1)
things = st.builds(
    Thing,
    texts,
    texts,
    st.none() | texts,
    longs,
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(max_size=9000),
    st.lists(st.builds(Item, texts, st.dictionaries(texts, texts, max_size=3))).map(tuple),
    st.none() | texts,
    st.dictionaries(texts, st.lists(texts, max_size=3).map(tuple), max_size=3),
    st.sampled_from(["RED", "BLUE"]),
)


@given(things)
@settings(max_examples=200, deadline=None)
def test_struct_mapping_and_arguments_write_what_fastavro_writes(thing: Thing) -> None:
    mapping: dict[str, Any] = msgspec.structs.asdict(thing)
    as_dict = {**mapping, "items": [msgspec.structs.asdict(item) for item in thing.items]}
    expected = b"head" + encoded(THING, as_dict)
    assert compile_writer(THING, b"head")(thing) == expected
    assert compile_writer(THING, b"head", mappings=True)(as_dict) == expected
    assert compile_writer(THING, b"head", arguments=True)(*mapping.values()) == expected


@given(longs)
def test_a_long_comes_back(value: int) -> None:
    for behind in (b"", b"abcdef"):
        raw = b"x" + encode_long(value) + behind
        assert read_long(raw, 1) == (value, len(raw) - len(behind))


def test_a_number_beyond_64_bits_is_an_error() -> None:
    with pytest.raises(OverflowError):
        encode_long(2**63)
    with pytest.raises(OverflowError):
        encode_long(-(2**63) - 1)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CACHE_ENTRIES_MAX", 10)
    numbers = writer_module._Longs()
    texts = writer_module._Texts()
    for value in range(1000):
        assert numbers[value] == encode_long(value)
        assert texts[str(value)] == encode_long(len(str(value))) + str(value).encode()
        assert len(numbers) <= 10
        assert len(texts) <= 10


class Far(msgspec.Struct):
    away: Thing | None
    here: int


def test_a_path_says_where_a_field_is() -> None:
    fields = [{"name": "here", "type": "int"}, {"name": "color", "type": ["null", "string"]}]
    schema = {"type": "record", "name": "far", "fields": fields}
    write = compile_writer(schema, b"", paths={"far.color": ("away", "color")})
    assert write(Far(None, 5)) == b"\x0a\x00"
    thing = Thing("", "", None, 0, 0.0, True, b"", (), None, {}, "RED")
    assert write(Far(thing, 5)) == b"\x0a\x02\x06RED"
