"""Random Avro schemas, values of them, and readers' schemas that evolved from them."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import fastavro
from hypothesis import strategies as st

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
PROMOTED = {"int": ("long", "double"), "long": ("double",), "float": ("double",)}
_names = itertools.count()


def _fresh(kind: str) -> str:
    return f"{kind}{next(_names)}"


def _record(fields: list[Any]) -> dict[str, Any]:
    named = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(fields)]
    return {"type": "record", "name": _fresh("r"), "fields": named}


def _enum(count: int) -> dict[str, Any]:
    symbols = [f"S{number}" for number in range(count)]
    return {"type": "enum", "name": _fresh("e"), "symbols": symbols}


def _union(branches: list[Any]) -> list[Any]:
    """At most one of each kind, as Avro wants it, and no union directly inside.

    Nor two kinds of which one can be read as the other: fastavro takes the first of them that
    fits when it resolves, we take the same one.
    """
    alike = {"int": "number", "long": "number", "float": "number", "double": "number"}
    kinds: dict[str, Any] = {}
    for branch in branches:
        if not isinstance(branch, list):
            kind = branch if isinstance(branch, str) else branch["type"]
            kinds.setdefault({"bytes": "string", **alike}.get(kind, kind), branch)
    return list(kinds.values()) or ["null"]


leaves = st.one_of(
    st.sampled_from(PRIMITIVES),
    st.integers(1, 5).map(_enum),
    st.integers(1, 9).map(lambda n: {"type": "fixed", "name": _fresh("x"), "size": n}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.filter(lambda s: s != "null").map(
            lambda s: {"type": "array", "items": _record([s, "int"])}
        ),
        inner.map(lambda s: {"type": "map", "values": s}),
        st.lists(inner, min_size=1, max_size=4).map(_union),
        st.lists(inner, max_size=5).map(_record),
    ),
    max_leaves=8,
)
records = st.lists(schemas, min_size=1, max_size=5).map(_record)


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values that fit ``schema``."""
    if isinstance(schema, list):
        return st.one_of([values(branch) for branch in schema])
    kind = schema if isinstance(schema, str) else schema["type"]
    simple: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(width=32, allow_nan=False),
        "double": st.floats(allow_nan=False),
        "bytes": st.binary(max_size=200),
        "string": st.text(max_size=100),
    }
    if kind in simple:
        return simple[kind]
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "fixed":
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    if kind == "array":
        return st.lists(values(schema["items"]), max_size=4)
    if kind == "map":
        return st.dictionaries(st.text(max_size=70), values(schema["values"]), max_size=4)
    return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in schema["fields"]})


def encoded(schema: Any, value: Any) -> bytes:
    """What fastavro writes."""
    output = io.BytesIO()
    fastavro.schemaless_writer(output, fastavro.parse_schema(copy.deepcopy(schema)), value)
    return output.getvalue()


def decoded(data: bytes, writer: Any, reader: Any | None = None) -> Any:
    """What fastavro reads."""
    return fastavro.schemaless_reader(
        io.BytesIO(data),
        fastavro.parse_schema(copy.deepcopy(writer)),
        None if reader is None else fastavro.parse_schema(copy.deepcopy(reader)),
    )


@st.composite
def evolved(draw: st.DrawFn, writer: dict[str, Any]) -> dict[str, Any]:
    """A reader's record: fields dropped, reordered, promoted, made optional, added."""
    fields = []
    for field in writer["fields"]:
        change = draw(st.sampled_from(["keep", "keep", "drop", "promote", "optional"]))
        kind = copy.deepcopy(field["type"])
        if change == "drop":
            continue
        if change == "promote" and isinstance(kind, str):
            kind = draw(st.sampled_from([kind, *PROMOTED.get(kind, ())]))
        if change == "optional" and isinstance(kind, str) and kind != "null":
            kind = ["null", kind]
        fields.append({"name": field["name"], "type": kind})
    fields = draw(st.permutations(fields))
    added: list[tuple[Any, Any]] = [
        ("string", "né"),
        (["null", "long"], None),
        ({"type": "map", "values": "string"}, {}),
        ({"type": "array", "items": "long"}, [1, 2]),
        ("double", 1.5),
    ]
    for number in draw(st.lists(st.integers(0, len(added) - 1), max_size=3, unique=True)):
        kind, default = added[number]
        fields.insert(0, {"name": f"new{number}", "type": kind, "default": default})
    return {**writer, "fields": fields}
