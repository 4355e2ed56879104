"""The contracts are documented, follow the model, and stay readable release after release."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import avro.schema
import msgspec
import pytest

from streams import topics
from streams.core import model
from streams.wire.compatibility import InvalidSchemaError, incompatibilities
from streams.wire.contracts import canonical_form, fingerprint, load_contracts
from streams.wire.reader import compile_reader

CONTRACTS = load_contracts()
NAMES = sorted(CONTRACTS.current)
RELEASES = sorted({release for release, _ in CONTRACTS.released})
UNITS = re.compile(
    r"milliseconds|counted|exact count|[Nn]umber(ed)? (of|from)|minute|Bits|offset|Offset|Place"
)


def records_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from records_in(branch)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
            for field in schema["fields"]:
                yield from records_in(field["type"])
        else:
            for part in ("items", "values"):
                if part in schema:
                    yield from records_in(schema[part])


def record(name: str) -> dict[str, Any]:
    """The record ``name`` wherever it is declared."""
    for contract in CONTRACTS.current.values():
        for found in records_in(contract.schema):
            if found["name"] == name:
                return found
    raise KeyError(name)


def field_names(schema: dict[str, Any]) -> list[str]:
    return [field["name"] for field in schema["fields"]]


def undocumented(schema: dict[str, Any]) -> list[str]:
    """Fields without a doc that ends in an example, or numbers without a unit."""
    wrong = []
    for found in records_in(schema):
        if not found.get("doc"):
            wrong.append(found["name"])
        for field in found["fields"]:
            doc = field.get("doc", "")
            branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
            is_number = any(kind in ("int", "long", "double") for kind in branches)
            if not re.search(r"Example: .+\.$", doc) or (is_number and not UNITS.search(doc)):
                wrong.append(f"{found['name']}.{field['name']}")
    return wrong


def test_every_topic_has_its_schema_and_every_schema_a_topic() -> None:
    used = {spec.schema for spec in topics.SPECS if spec.schema}
    assert used == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_says_what_it_is_in_which_unit_with_an_example(name: str) -> None:
    assert undocumented(CONTRACTS.current[name].schema) == []


def test_the_check_of_docs_can_fail() -> None:
    schema = copy.deepcopy(CONTRACTS.current["event"].schema)
    schema["fields"][0]["doc"] = "Identity."
    schema["fields"][3]["doc"] = "When it happened. Example: 5."
    assert undocumented(schema) == ["event.event_id", "event.created_at_ms"]


@pytest.mark.parametrize(
    ("name", "struct", "before", "left_out"),
    [
        ("event", model.Event, [], []),
        ("preference", model.Preferences, ["recipient_id"], []),
        ("quiet_window", model.QuietWindow, [], []),
        ("receipt", model.Receipt, [], ["source"]),
        ("cancellation", model.Cancellation, [], ["source"]),
        ("claim", model.Claim, [], []),
        ("delivery", model.Delivery, [], []),
        ("digest_item", model.DigestItem, [], []),
        ("sent", model.Sent, [], []),
    ],
)
def test_fields_follow_the_model_by_name_and_order(
    name: str, struct: type[msgspec.Struct], before: list[str], left_out: list[str]
) -> None:
    expected = before + [n for n in struct.__struct_fields__ if n not in left_out]
    assert field_names(record(name)) == expected


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("event", model.Event),
        ("preference", model.Preferences),
        ("quiet_window", model.QuietWindow),
    ],
)
def test_what_producers_may_leave_out_has_the_models_default(
    name: str, struct: type[msgspec.Struct]
) -> None:
    """So that a producer that never heard of a field is read, and read as the model means it."""
    given = {f["name"]: f["default"] for f in record(name)["fields"] if "default" in f}
    expected = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in msgspec.structs.fields(struct)
        if not field.required
    }
    assert given == {key: list(v) if isinstance(v, tuple) else v for key, v in expected.items()}


def test_a_file_must_be_named_for_its_record(tmp_path: Path) -> None:
    (tmp_path / "released").mkdir()
    (tmp_path / "evnt.avsc").write_text('{"type": "record", "name": "event", "fields": []}')
    with pytest.raises(ValueError, match="must declare the record evnt"):
        load_contracts(tmp_path)


def test_an_entry_has_its_source_flat() -> None:
    flat = [n for n in model.Entry.__struct_fields__ if n != "source"]
    flat += ["source_topic", "source_partition", "source_offset"]
    assert field_names(record("entry")) == flat


def test_symbols_are_those_of_the_model() -> None:
    def symbols(name: str, field: str) -> tuple[str, ...]:
        kind = next(f["type"] for f in record(name)["fields"] if f["name"] == field)
        return tuple((kind[1] if isinstance(kind, list) else kind)["symbols"])

    assert set(symbols("destination", "kind")) == set(get_args(model.Kind)) == set(topics.KINDS)
    assert symbols("receipt", "kind") == get_args(get_type_hints(model.Receipt)["kind"])
    assert symbols("event", "priority") == get_args(model.Priority)


def test_copies_of_the_delivery_are_equal() -> None:
    original = record("delivery")["fields"]
    copies = [
        found["fields"]
        for name in ("feedback", "dead_letter")
        for found in records_in(CONTRACTS.current[name].schema)
        if found["name"] == "delivery"
    ]
    assert copies == [original, original]


def test_all_current_schemas_are_namespaced_and_whole() -> None:
    for name, contract in CONTRACTS.current.items():
        assert contract.schema["namespace"] == "flowstate"
        compile_reader(contract.schema, contract.schema)
        assert contract.schema["name"] == name


def test_fields_that_may_be_null_have_a_default() -> None:
    for contract in CONTRACTS.current.values():
        for found in records_in(contract.schema):
            for field in found["fields"]:
                if isinstance(field["type"], list):
                    assert field["type"][0] == "null", field["name"]
                    assert field["default"] is None, field["name"]


@pytest.mark.parametrize(
    ("release", "contract"), CONTRACTS.released, ids=lambda p: getattr(p, "name", p)
)
def test_this_release_reads_all_that_were(release: str, contract: Any) -> None:
    ours = CONTRACTS.current[contract.name].schema
    assert incompatibilities(ours, contract.schema) == []
    compile_reader(contract.schema, ours)


@pytest.mark.parametrize("name", NAMES)
def test_the_release_before_reads_this_one(name: str) -> None:
    """Rolling upgrades and rollbacks mix the two."""
    before = {c.name: c.schema for release, c in CONTRACTS.released if release == RELEASES[-1]}
    if name in before:
        assert incompatibilities(before[name], CONTRACTS.current[name].schema) == []


def test_every_schema_was_released_or_is_a_change_of_a_released_one() -> None:
    released = {contract.name for _, contract in CONTRACTS.released}
    assert released == set(NAMES)


@pytest.mark.parametrize(
    ("change", "is_readable"),
    [
        (lambda s: s["fields"].append({"name": "new", "type": "string"}), False),
        (lambda s: s["fields"][0].update(type="long"), False),
        (lambda s: s.update(name="other"), False),
        (
            lambda s: (
                s["fields"][6]["type"][1].update(symbols=["x"])
                or s["fields"][6]["type"][1].pop("default")
            ),
            False,
        ),
        (lambda s: s["fields"][6]["type"][1].update(symbols=["x"], default="x"), True),
        (lambda s: s["fields"].append({"name": "n", "type": "int", "default": 0}), True),
        (lambda s: s["fields"].pop(), True),
    ],
)
def test_the_check_of_compatibility_can_fail(
    change: Callable[[Any], None], is_readable: bool
) -> None:
    schema = copy.deepcopy(CONTRACTS.current["event"].schema)
    change(schema)
    found = incompatibilities(schema, CONTRACTS.current["event"].schema)
    assert (found == []) == is_readable


def test_what_is_no_schema_is_named_so() -> None:
    for broken in ("{", '{"type": "record"}', "[]x", '"unknown"'):
        with pytest.raises(InvalidSchemaError):
            incompatibilities(broken, '"int"')


def test_fingerprints_are_those_of_the_specification() -> None:
    """Vectors from Apache's share/test/data/schema-tests.txt, as signed 64-bit numbers."""
    vectors = {"null": 7195948357588979594, "int": 8247732601305521295}
    for schema, expected in vectors.items():
        assert int.from_bytes(fingerprint(schema), "little", signed=True) == expected


@pytest.mark.parametrize("name", NAMES)
def test_fingerprints_agree_with_apaches_library(name: str) -> None:
    schema = CONTRACTS.current[name].schema
    theirs = avro.schema.parse(msgspec.json.encode(schema).decode())
    assert canonical_form(schema) == theirs.canonical_form
    assert fingerprint(schema) == theirs.fingerprint("CRC-64-AVRO")
