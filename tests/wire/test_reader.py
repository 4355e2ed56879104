"""Compiled readers agree with fastavro on what is right, and refuse what is wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.wire.primitives import READ_FAILURES, MalformedError, SchemaRefusedError, encode_long
from streams.wire.reader import BLOCKS_MAX, compile_reader
from tests.wire.avro_strategies import decoded, encoded, evolved, records, values


def record(*kinds: Any, name: str = "thing") -> dict[str, Any]:
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_reads_what_fastavro_writes(data: st.DataObject) -> None:
    schema = data.draw(records)
    value = data.draw(values(schema))
    raw = encoded(schema, value)
    assert compile_reader(schema, schema)(raw, 0) == decoded(raw, schema)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_resolves_as_fastavro_does(data: st.DataObject) -> None:
    writer = data.draw(records)
    reader = data.draw(evolved(writer))
    raw = encoded(writer, data.draw(values(writer)))
    assert compile_reader(writer, reader)(b"head" + raw, 4) == decoded(raw, writer, reader)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_refused_or_read_as_fastavro_reads_them(data: st.DataObject) -> None:
    schema = data.draw(records)
    raw = bytearray(encoded(schema, data.draw(values(schema))))
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=3))
    try:
        value = compile_reader(schema, schema)(bytes(raw), 0)
    except READ_FAILURES:
        return
    assert repr(value) == repr(decoded(bytes(raw), schema))  # repr: a NaN equals nothing


def test_the_same_branch_goes_before_one_to_promote_to() -> None:
    schema = record(["bytes", "string"], ["double", "long"])
    raw = b"\x02\x04ab" + b"\x02\x06"
    assert compile_reader(schema, schema)(raw, 0) == {"f0": "ab", "f1": 3}


def test_arrays_become_tuples_and_records_structs() -> None:
    item = record("int", name="item")
    schema = record(array(item), {"type": "map", "values": array("string")})
    raw = encoded(schema, {"f0": [{"f0": 1}, {"f0": 2}], "f1": {"a": ["b"]}})
    read = compile_reader(schema, schema, {"thing": lambda *v: v, "item": lambda v: v})
    assert read(raw, 0) == ((1, 2), {"a": ("b",)})


@pytest.mark.parametrize(
    ("kind", "raw", "why"),
    [
        ("string", encode_long(-1), "length is beyond"),
        ("string", encode_long(2**40) + b"abc", "length is beyond"),
        ("bytes", encode_long(2**62), "length is beyond"),
        (array("string"), encode_long(2**60), "count is beyond"),
        (array("string"), encode_long(-(2**60)) + encode_long(1) + b"a", "count is beyond"),
        (array("string"), encode_long(-1) + encode_long(2**50), "block is beyond"),
        (array("string"), encode_long(-(2**63)) + encode_long(0), "count is beyond"),
        ({"type": "map", "values": "int"}, encode_long(2**33), "count is beyond"),
        ("long", b"\xff" * 10, "more than 64 bits"),
        ("long", b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        ("boolean", b"\x02", "neither 0 nor 1"),
        (["null", "int"], b"\x04", "no such branch"),
        (["null", "int"], b"\x01", "no such branch"),
        ("int", b"\x02\x00", "left over"),
        ("string", encode_long(3) + b"ab", "cut short"),
    ],
)
def test_bytes_that_lie_are_refused(kind: Any, raw: bytes, why: str) -> None:
    read = compile_reader(record(kind), record(kind))
    with pytest.raises(MalformedError, match=why):
        read(raw, 0)


@pytest.mark.parametrize("index", [encode_long(-1), encode_long(2)])
def test_an_enum_has_no_symbol_before_its_first_or_after_its_last(index: bytes) -> None:
    schema = record({"type": "enum", "name": "e", "symbols": ["A", "B"]})
    with pytest.raises(MalformedError, match="unknown symbol"):
        compile_reader(schema, schema)(index, 0)


def test_an_unknown_symbol_takes_the_default_of_the_reader() -> None:
    def with_symbols(symbols: list[str], **more: Any) -> dict[str, Any]:
        return record({"type": "enum", "name": "e", "symbols": symbols, **more})

    writer = with_symbols(["A", "NEW"])
    raw = encoded(writer, {"f0": "NEW"})
    assert compile_reader(writer, with_symbols(["B", "A"], default="A"))(raw, 0) == {"f0": "A"}
    with pytest.raises(MalformedError, match="unknown symbol"):
        compile_reader(writer, with_symbols(["B", "A"]))(raw, 0)


def test_a_branch_that_ours_lacks_refuses_only_the_records_that_use_it() -> None:
    writer, reader = record(["null", "string", "boolean"]), record(["null", "string"])
    read = compile_reader(writer, reader)
    assert read(encoded(writer, {"f0": "x"}), 0) == {"f0": "x"}
    with pytest.raises(MalformedError, match="boolean is no branch of ours"):
        read(encoded(writer, {"f0": True}), 0)


def nested(depth: int) -> Any:
    kind: Any = "int"
    for _ in range(depth):
        kind = array(kind)
    return kind


def linked_list() -> dict[str, Any]:
    return {
        "type": "record",
        "name": "thing",
        "fields": [{"name": "next", "type": ["null", "thing"]}],
    }


def doubling(levels: int) -> dict[str, Any]:
    """Each level has the one below twice: 2**levels types from a few lines."""
    kind: Any = {"type": "record", "name": "level0", "fields": []}
    for level in range(1, levels):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"level{level - 1}"}]
        kind = {"type": "record", "name": f"level{level}", "fields": fields}
    return record("int", array(kind))


@pytest.mark.parametrize(
    ("writer", "why"),
    [
        (linked_list(), "recursively"),
        (record("int", array("null")), "take no bytes"),
        (record("int", array(record(name="empty"))), "take no bytes"),
        (doubling(20), "take no bytes"),
        (record("int", nested(BLOCKS_MAX + 1)), "nest deeper"),
        (record(*["int"] * 6_000), "more than"),
        (record([{"type": "array", "items": "int"}, "missing.type"]), "not an Avro schema"),
        ({"type": "record"}, "not an Avro schema"),
        (record("int", name="other"), "record other cannot be read as record thing"),
        ("string", "string cannot be read as record"),
    ],
)
def test_schemas_that_cannot_be_read_safely_are_refused(writer: Any, why: str) -> None:
    started = time.perf_counter()
    with pytest.raises(SchemaRefusedError, match=why):
        compile_reader(writer, record("int"))
    assert time.perf_counter() - started < 5


def test_a_missing_field_without_default_is_refused_by_name() -> None:
    with pytest.raises(SchemaRefusedError, match="f1 is missing"):
        compile_reader(record("int"), record("int", "int"))


def test_names_and_texts_of_a_schema_never_become_code() -> None:
    """A hostile default and symbol come back as the texts that they are."""
    text = "'); raise SystemExit('owned') #\"\"\"\\"
    reader = record("int")
    reader["fields"].append({"name": "f1", "type": "string", "default": text})
    assert compile_reader(record("int"), reader)(b"\x02", 0) == {"f0": 1, "f1": text}


def test_a_bomb_costs_no_more_than_its_bytes() -> None:
    """A megabyte of blocks that each promise much is refused at the first."""
    schema = record(array(record("int", "string", name="item")))
    bomb = (encode_long(2**20) + b"\x00") * 100_000
    started = time.perf_counter()
    with pytest.raises(READ_FAILURES):
        compile_reader(schema, schema)(bomb, 0)
    assert time.perf_counter() - started < 2
