"""The parts of Avro that compiled readers and writers call: numbers, lengths, counts, names.

Invariants
- A length or a count that the rest of the record cannot hold is refused before anything is made
  of it, so a few bytes never cost more than a few bytes.
- A number has at most 64 bits.

Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import fastavro

Schema = Any
"""A schema: ``str``, ``list`` or ``dict``, as in its JSON."""
Reader = Callable[[bytes, int], Any]
"""``read(data, start)``: the value that begins at ``start`` and ends with ``data``."""
Writer = Callable[..., bytes]
READ_FAILURES = (IndexError, ValueError, struct.error)
"""All that a compiled reader raises. An index or a struct beyond the end is a record cut short."""
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})

_HIGH_BITS = sum(128 << (7 * place) for place in range(5))


class MalformedError(ValueError):
    """The bytes are not what their writer's schema says."""


class SchemaRefusedError(ValueError):
    """A writer's schema that cannot be read as ours, or that is not safe to read at all."""


def parse(schema: Schema) -> tuple[Schema, dict[str, Schema]]:
    """A schema with full names, and its named types. Raises SchemaRefusedError."""
    named: dict[str, Schema] = {}
    try:
        parsed = fastavro.parse_schema(schema, named_schemas=named, _force=True)
    except RecursionError as error:
        raise SchemaRefusedError("the schema nests too deep") from error
    except Exception as error:  # the library names no common base for what a bad schema raises
        raise SchemaRefusedError(f"not an Avro schema: {type(error).__name__}: {error}") from error
    return parsed, named


def kind_of(schema: Schema) -> str:
    """``record``, ``string``, ``union``, ...: the outer type of a schema."""
    if isinstance(schema, list):
        return "union"
    if isinstance(schema, dict):
        inner = schema["type"]
        return inner if isinstance(inner, str) else kind_of(inner)
    return str(schema)


def described(schema: Schema) -> str:
    """A schema in a few words, for a sentence."""
    named = isinstance(schema, dict) and "name" in schema
    return f"{kind_of(schema)} {schema['name']}" if named else kind_of(schema)


def read_long(data: bytes, start: int) -> tuple[int, int]:
    """(value, next position) of a zig-zag varint of at most 64 bits."""
    chunk = data[start : start + 6]
    if len(chunk) == 6:  # what a time in milliseconds takes from 2004 to 2039, in one step
        a, b, c, d, e, f = chunk
        if f < 128 <= a & b & c & d & e:
            value = a + (b << 7) + (c << 14) + (d << 21) + (e << 28) + (f << 35) - _HIGH_BITS
            return (value >> 1) ^ -(value & 1), start + 6
    value = shift = 0
    for position in range(start, start + 10):
        byte = data[position]
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return (value >> 1) ^ -(value & 1), position + 1
        shift += 7
    raise MalformedError("a number has more than 64 bits")


def read_length(data: bytes, start: int) -> tuple[int, int]:
    """(twice the length, next position) of a text or bytes; the caller halves it."""
    length, position = read_long(data, start)
    if not 0 <= length <= len(data) - position:
        raise MalformedError("a length is beyond the record")
    return length << 1, position


def read_count(data: bytes, start: int) -> tuple[int, int]:
    """(twice the items, next position) of a block that has some; a negative count has a size."""
    count, position = read_long(data, start)
    if count < 0:
        count = -count
        size, position = read_long(data, position)
        if not 0 <= size <= len(data) - position:
            raise MalformedError("a block is beyond the record")
    if not 0 < count <= len(data) - position:
        raise MalformedError("a block's count is beyond the record")
    return count << 1, position


def refuse(why: str) -> Any:
    """Raises; a function, so that it can stand where an expression must."""
    raise MalformedError(why)


def encode_long(value: int) -> bytes:
    """The zig-zag varint of a 64-bit number. Raises OverflowError beyond 64 bits."""
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(f"{value} has more than 64 bits")
    rest = (value << 1) ^ (value >> 63)
    if rest < 1 << 14:
        return _LAST[rest]
    if rest < 1 << 28:
        return _MIDDLE[rest & 16383] + _LAST[rest >> 14]
    if rest < 1 << 42:  # times in milliseconds, until 2039
        return _MIDDLE[rest & 16383] + _MIDDLE[rest >> 14 & 16383] + _LAST[rest >> 28]
    parts = bytearray()
    while rest > 127:
        parts.append(rest & 127 | 128)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


_MIDDLE = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(1 << 14)]
"""14 bits in the middle of a number: two bytes that say "more follows". Looking them up takes half
as long as making them, and a record has a handful of times."""
_LAST = [_MIDDLE[n][:1] + bytes((n >> 7,)) if n > 127 else bytes((n,)) for n in range(1 << 14)]
"""The highest 14 bits or fewer: one byte or two."""
