"""Says what is wrong with a value that should follow an Avro schema, in words for a person.

``fastavro`` raises on the first mistake and names types; someone who writes JSON lines by hand
wants every mistake of a line at once, each with the path to it and what would be right.

Pure: schemas and values in, sentences out. Defaults are not checked: a field that has one may be
left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

INTEGER_RANGES = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
JSON_TYPES = {"string": str, "boolean": bool, "map": dict, "array": list}
PROBLEMS_MAX = 10
"""A line with more mistakes than this is not a record of that kind at all."""

Schema = Any
"""An Avro schema as parsed JSON: a string, a list (union) or an object."""


class SchemaNames:
    """Named types (records, enums, fixed) of a schema, so that a use by name finds them."""

    def __init__(self, schema: Schema) -> None:
        self._types: dict[str, Schema] = {}
        self._collect(schema)

    def resolve(self, schema: Schema) -> Schema:
        """The definition behind a name; anything else as it is."""
        if isinstance(schema, str):
            return self._types.get(schema.rpartition(".")[2], schema)
        return schema

    def _collect(self, schema: Schema) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch)
        elif isinstance(schema, dict):
            if "name" in schema and schema.get("type") in {"record", "enum", "fixed"}:
                self._types.setdefault(str(schema["name"]).rpartition(".")[2], schema)
            for field in schema.get("fields", []):
                self._collect(field["type"])
            for part in ("items", "values"):
                if part in schema:
                    self._collect(schema[part])
            if not isinstance(schema.get("type"), str):
                self._collect(schema.get("type"))


def problems_of(schema: Schema, value: object) -> list[str]:
    """Everything that is wrong with ``value``, at most ``PROBLEMS_MAX``; ``[]`` if nothing is."""
    names = SchemaNames(schema)
    found: list[str] = []
    for problem in _check(names, schema, value, ""):
        found.append(problem)
        if len(found) == PROBLEMS_MAX:
            break
    return found


def _check(names: SchemaNames, schema: Schema, value: object, path: str) -> Iterator[str]:
    schema = names.resolve(schema)
    if isinstance(schema, list):
        yield from _check_union(names, schema, value, path)
        return
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(kind, (dict, list)):
        yield from _check(names, kind, value, path)
    elif kind == "record":
        yield from _check_record(names, schema, value, path)
    elif kind == "enum":
        if value not in schema["symbols"]:
            yield f"{_at(path)}expected one of {', '.join(schema['symbols'])}{_got(value)}"
    elif kind in {"array", "map"}:
        yield from _check_collection(names, schema, kind, value, path)
    else:
        yield from _check_primitive(kind, value, path)


def _check_record(names: SchemaNames, schema: Schema, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{_at(path)}expected an object ({schema['name']}){_got(value)}"
        return
    fields = {field["name"]: field for field in schema["fields"]}
    for name in value:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"fields are {', '.join(fields)}"
            yield f"{_at(path)}unknown field {name!r}; {hint}"
    for name, field in fields.items():
        if name in value:
            yield from _check(names, field["type"], value[name], f"{path}.{name}".lstrip("."))
        elif "default" not in field:
            yield f"{_at(path)}missing field {name!r}: {field.get('doc', 'it has no default')}"


def _check_collection(
    names: SchemaNames, schema: Schema, kind: str, value: object, path: str
) -> Iterator[str]:
    if kind == "array" and isinstance(value, list):
        for place, item in enumerate(value):
            yield from _check(names, schema["items"], item, f"{path}[{place}]")
    elif kind == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from _check(names, schema["values"], item, f"{path}.{key}")
    else:
        expected = "a list" if kind == "array" else "an object"
        yield f"{_at(path)}expected {expected}{_got(value)}"


def _check_union(
    names: SchemaNames, branches: list[Any], value: object, path: str
) -> Iterator[str]:
    tried = [(branch, list(_check(names, branch, value, path))) for branch in branches]
    if any(not problems for _, problems in tried):
        return
    real = [problems for branch, problems in tried if branch != "null"]
    if len(real) == 1:
        yield from real[0]
        return
    kinds = ", ".join(b if isinstance(b, str) else str(b.get("name", b["type"])) for b in branches)
    yield f"{_at(path)}expected one of: {kinds}{_got(value)}"


def _check_primitive(kind: str, value: object, path: str) -> Iterator[str]:
    right = False
    if kind == "null":
        right = value is None
    elif kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    elif kind in {"float", "double"}:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif kind in {"bytes", "fixed"}:
        right = isinstance(value, (str, bytes))
    else:
        right = isinstance(value, JSON_TYPES[kind])
    if not right:
        yield f"{_at(path)}expected {kind}{_got(value)}"


def _at(path: str) -> str:
    return f"{path}: " if path else ""


def _got(value: object) -> str:
    text = repr(value)
    return f", got {text if len(text) <= 40 else text[:37] + '...'}"
