"""aiokafka's requests and responses, read and written by functions that are generated once.

aiokafka walks the schema of a message for every value in it. A fetch names each partition of each
topic, twenty times a second with nothing to fetch: 160 of them took 1.5 ms to read and 1.1 to
write, of which this leaves an eighth. Here a schema becomes a function in which numbers that follow
each other are one call of ``struct``.

Invariants: the same bytes and the same values as aiokafka's own, for every message that it has (a
test says so); whatever is not understood here, a schema or a value, is left to aiokafka's own.

Source: https://kafka.apache.org/protocol (protocol primitive types).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    UInt32,
)

Reader = Callable[[bytes, int], tuple[tuple[Any, ...], int]]
"""(bytes, position) -> (values of the fields, position after them)."""
Writer = Callable[[Any], bytes]
"""Values of the fields -> bytes."""

FORMATS = {Int8: "b", Int16: "h", Int32: "i", UInt32: "I", Int64: "q", Float64: "d", Boolean: "?"}


class _Unknown(Exception):  # noqa: N818 (a state, named for what happened)
    """A type that no code is made for: flexible versions, which are asked for seldom."""


class _Code:
    """A function that is being written. Numbers wait until something else has to be done."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._names = 0
        self._depth = 1
        self._waiting: list[tuple[str, str]] = []
        """Format and name, or expression, of each number."""

    def name(self) -> str:
        """A new name of a variable."""
        self._names += 1
        return f"v{self._names}"

    def line(self, text: str) -> None:
        """Adds a line behind the numbers that wait."""
        self.flush()
        self.lines.append("    " * self._depth + text)

    def loop(self, head: str) -> None:
        """What follows is repeated, up to ``end``."""
        self.line(head)
        self._depth += 1

    def end(self) -> None:
        """Ends what is repeated."""
        self.flush()
        self._depth -= 1

    def number(self, kind: str, value: str) -> None:
        """A number is next: the name it gets, or what is written."""
        self._waiting.append((kind, value))

    def flush(self) -> None:
        """Reads or writes the numbers that wait."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            packed = struct.Struct(">" + "".join(kind for kind, _ in waiting))
            self.numbers(packed, ", ".join(value for _, value in waiting))

    def numbers(self, packed: struct.Struct, values: str) -> None:
        """Adds the line that reads or writes them."""
        raise NotImplementedError

    def constant(self, value: Any) -> str:
        """The name of something that the function uses."""
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def made(self, head: str, last: str) -> Any:
        """The function."""
        self.line(last)
        names: dict[str, Any] = {}
        text = "\n".join((f"def made({head}):", *self.lines))
        exec(compile(text, "<kafka protocol>", "exec"), self.constants, names)  # noqa: S102
        return names["made"]


class _ReaderCode(_Code):
    def numbers(self, packed: struct.Struct, values: str) -> None:
        self.lines.append(
            "    " * self._depth + f"{values}, = {self.constant(packed.unpack_from)}(data, at)"
        )
        self.lines.append("    " * self._depth + f"at += {packed.size}")

    def fields(self, schema: Schema) -> str:
        """Reads the fields; what they are as a tuple."""
        return "".join(("(", *[f"{self.value(field)}, " for field in schema.fields], ")"))

    def value(self, kind: Any) -> str:
        """Reads one value; its name."""
        name = self.name()
        if (number := FORMATS.get(kind)) is not None:
            self.number(number, name)
        elif type(kind) is Schema:
            return self.fields(kind)
        elif type(kind) is Array:
            self.number("i", count := self.name())
            self.line(f"{name} = None if {count} == -1 else []")
            self.loop(f"for _ in range({count}):")
            self.line(f"{name}.append({self._item(kind.array_of)})")
            self.end()
        elif type(kind) is String or kind is Bytes:
            self.number("i" if kind is Bytes else "h", size := self.name())
            decoded = "" if kind is Bytes else f".decode({kind.encoding!r})"
            self.line(f"{name} = None if {size} < 0 else data[at:at + {size}]{decoded}")
            self.line(f"at += {size} if {size} > 0 else 0")
        else:
            raise _Unknown
        return name

    def _item(self, kind: Any) -> str:
        item = self.value(kind)
        self.flush()
        return item


class _WriterCode(_Code):
    def numbers(self, packed: struct.Struct, values: str) -> None:
        self.lines.append("    " * self._depth + f"add({self.constant(packed.pack)}({values}))")

    def fields(self, schema: Schema, values: str) -> None:
        """Writes the fields of a sequence of that name."""
        names = [self.name() for _ in schema.fields]
        if names:
            self.line(f"{', '.join(names)}, = {values}")
        for field, name in zip(schema.fields, names, strict=True):
            self.value(field, name)

    def value(self, kind: Any, name: str) -> None:
        """Writes what has this name."""
        if (number := FORMATS.get(kind)) is not None:
            self.number(number, name)
        elif type(kind) is Schema:
            self.fields(kind, name)
        elif type(kind) is Array:
            self.number("i", f"-1 if {name} is None else len({name})")
            self.loop(f"for {(item := self.name())} in {name} or ():")
            self.value(kind.array_of, item)
            self.end()
        elif kind is Bytes:
            self.number("i", f"-1 if {name} is None else len({name})")
            self.line(f"add({name} or b'')")
        elif type(kind) is String:
            encoded = self.name()
            self.line(
                f"{encoded} = None if {name} is None else str({name}).encode({kind.encoding!r})"
            )
            self.number("h", f"-1 if {encoded} is None else len({encoded})")
            self.line(f"add({encoded} or b'')")
        else:
            raise _Unknown


def reader_of(schema: Schema) -> Reader | None:
    """A function that reads the schema; ``None`` when a part of it is not understood."""
    code = _ReaderCode()
    try:
        values = code.fields(schema)
    except _Unknown:
        return None
    made: Reader = code.made("data, at", f"return {values}, at")
    return made


def writer_of(schema: Schema) -> Writer | None:
    """A function that writes the schema; ``None`` when a part of it is not understood."""
    code = _WriterCode()
    code.line("parts = []")
    code.line("add = parts.append")
    try:
        code.fields(schema, "values")
    except _Unknown:
        return None
    made: Writer = code.made("values", "return b''.join(parts)")
    return made


_readers: dict[type[Struct], Reader | None] = {}
_writers: dict[type[Struct], Writer | None] = {}
slow_decode = Struct.decode.__func__
slow_encode = Struct.encode


def decode(kind: type[Struct], data: BytesIO | bytes) -> Struct:
    """What ``Struct.decode`` gives."""
    if kind not in _readers:
        _readers[kind] = reader_of(kind.SCHEMA)
    if (reader := _readers[kind]) is not None:
        buffer = BytesIO(data) if isinstance(data, bytes) else data
        whole, began = buffer.getvalue(), buffer.tell()
        try:
            values, ended = reader(whole, began)
        except (struct.error, ValueError):
            ended = len(whole) + 1
        if ended <= len(whole):
            buffer.seek(ended)
            return kind(*values)
    decoded: Struct = slow_decode(kind, data)
    return decoded


def encode(message: Struct) -> bytes:
    """What ``Struct.encode`` gives."""
    kind = type(message)
    if kind not in _writers:
        _writers[kind] = writer_of(kind.SCHEMA)
    if (writer := _writers[kind]) is not None:
        try:
            return writer([message.__dict__[name] for name in kind.SCHEMA.names])
        except (struct.error, ValueError, TypeError):
            pass  # Said in aiokafka's own words.
    encoded: bytes = slow_encode(message)
    return encoded


def use() -> None:
    """From now on all clients of this process use the generated functions."""
    Struct.decode = classmethod(decode)
    Struct.encode = encode
