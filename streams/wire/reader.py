"""Compiles a writer's schema and a reader's schema into one Python function that decodes.

Why not a library: fastavro's resolution compares the two schemas again for every field of every
record (16 us for an event, 8 without resolution); a function generated once costs 3, and where
``native/`` was compiled it carries the same plan out for a fifth of that. It is also strict where
fastavro is lenient: a negative union branch, a length beyond the record, a skipped field cut short
and bytes left over are all refused.

Invariants
- A compiled reader returns a value or raises one of ``READ_FAILURES``, whatever the bytes, in time
  and memory proportional to their length: every item of an array or map takes at least a byte.
- Only our own code is generated: names and texts from a schema enter the source as ``repr``.
- Schemas that could cost more than their data (recursive, huge, items of no bytes) are refused
  when they are compiled, as ``SchemaRefusedError``.

Source: https://avro.apache.org/docs/1.12.0/specification/ (binary encoding, schema resolution).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from streams.wire.plan import PRIMITIVE_OPS, Op, Plan, native
from streams.wire.primitives import (
    PRIMITIVES,
    MalformedError,
    Reader,
    Schema,
    SchemaRefusedError,
    described,
    kind_of,
    parse,
    read_count,
    read_length,
    read_long,
    refuse,
)

NODES_MAX = 5_000
"""Types in a schema once its names are written out; a schema bomb has more."""
DEPTH_MAX = 24
"""How deep types may nest; our own need six."""
BLOCKS_MAX = 8
"""How deep arrays and maps may nest: Python allows 20 nested loops, each needs two."""

_PROMOTIONS: dict[tuple[str, str], tuple[str, Op | None]] = {
    ("int", "long"): ("{}", None),
    ("int", "float"): ("float({})", Op.TO_FLOAT),
    ("int", "double"): ("float({})", Op.TO_FLOAT),
    ("long", "float"): ("float({})", Op.TO_FLOAT),
    ("long", "double"): ("float({})", Op.TO_FLOAT),
    ("float", "double"): ("{}", None),
    ("string", "bytes"): ("{}.encode()", Op.TO_BYTES),
    ("bytes", "string"): ("{}.decode()", Op.TO_STRING),
}
"""(written, wanted) -> how, as an expression and as a step of a plan."""


def compile_reader(
    writer: Schema,
    reader: Schema,
    constructors: Mapping[str, Callable[..., Any]] | None = None,
) -> Reader:
    """A function that decodes what ``writer`` wrote into what ``reader`` declares.

    Records become ``constructors[name](*fields)`` in the reader's order, with arrays as tuples;
    without constructors they become dicts, with arrays as lists. Raises ``SchemaRefusedError``.
    """
    compiler = _Compiler(writer, reader, constructors)
    read = compiler.function()
    return read if native is None else native.Reader(compiler.plan, MalformedError)


class _Compiler:
    """Emits the source of one reader, and its plan. ``i`` is the position, ``b`` the bytes."""

    def __init__(
        self,
        writer: Schema,
        reader: Schema,
        constructors: Mapping[str, Callable[..., Any]] | None,
    ) -> None:
        self.writer, self.writer_names = parse(writer)
        self.reader, self.reader_names = parse(reader)
        self.constructors = constructors
        self.lines: list[str] = []
        self.indent = 1
        self.names = 0
        self.nodes = 0
        self.blocks = 0
        self.path: list[str] = []
        self.empty: dict[str, bool] = {}
        self.plan: Plan = ()
        self.scope: dict[str, Any] = {
            "read_long": read_long,
            "read_length": read_length,
            "read_count": read_count,
            "refuse": refuse,
            "unpack_from": struct.unpack_from,
        }

    def function(self) -> Reader:
        result = self.name()
        self.plan = self.value(self.writer, self.reader, result)
        source = "\n".join(
            [
                "def read(b, i):",
                *self.lines,
                "    if i != len(b):",
                "        refuse('cut short' if i > len(b) else 'bytes are left over')",
                f"    return {result}",
            ]
        )
        try:
            code = compile(source, "<avro reader>", "exec")
        except (SyntaxError, RecursionError, MemoryError) as error:  # Python's own limits
            raise SchemaRefusedError("types nest deeper than can be compiled") from error
        exec(code, self.scope)  # noqa: S102 - our own source
        read: Reader = self.scope["read"]
        return read

    # ------------------------------------------------------------------------------- small parts

    def name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def emit(self, *lines: str) -> None:
        self.lines.extend("    " * self.indent + line for line in lines)

    def refused(self, why: str) -> SchemaRefusedError:
        return SchemaRefusedError(f"{'.'.join(self.path) or 'the schema'}: {why}")

    def written(self, schema: Schema) -> Schema:
        """The definition behind a name in the writer's schema."""
        if isinstance(schema, str) and schema not in PRIMITIVES:
            return self.writer_names[schema]
        return schema

    def wanted(self, schema: Schema) -> Schema:
        """The definition behind a name in the reader's schema."""
        if isinstance(schema, str) and schema not in PRIMITIVES:
            return self.reader_names[schema]
        return schema

    # ------------------------------------------------------------------------------------ values

    def value(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        """Emits the reading of one value into ``target``; a reader of ``None`` throws it away.

        Returns the plan of the same, as all that emit the reading of something do.
        """
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise self.refused(f"more than {NODES_MAX} types")
        if len(self.path) > DEPTH_MAX:
            raise self.refused(f"types nest deeper than {DEPTH_MAX}, or recursively")
        writer = self.written(writer)
        if isinstance(writer, list):
            return self.union(writer, reader, target)
        if isinstance(reader, list):
            reader = self.branch(writer, reader)
        reader = None if reader is None else self.wanted(reader)
        if reader is not None and not self.matches(writer, reader):
            raise self.refused(f"{described(writer)} cannot be read as {described(reader)}")
        kind = kind_of(writer)
        if kind in PRIMITIVES:
            return self.primitive(kind, None if reader is None else kind_of(reader), target)
        plan: Plan = getattr(self, kind)(writer, reader, target)
        return plan

    def branch(self, writer: Schema, reader: list[Schema]) -> Schema:
        """Our branch for a writer's type: the same type before one that it can be promoted to."""
        matching = [b for b in map(self.wanted, reader) if self.matches(writer, b)]
        same = [b for b in matching if kind_of(b) == kind_of(writer)]
        if not matching:
            raise self.refused(f"{described(writer)} is no branch of ours")
        return (same or matching)[0]

    def matches(self, writer: Schema, reader: Schema) -> bool:
        """Whether the outer types agree; what is inside is found out when it is compiled."""
        if isinstance(writer, list) or isinstance(reader, list):
            return True
        wrote, wants = kind_of(writer), kind_of(reader)
        if wrote != wants:
            return (wrote, wants) in _PROMOTIONS
        if wrote not in ("record", "enum", "fixed"):
            return True
        if wrote == "fixed" and writer["size"] != reader["size"]:
            return False
        short = writer["name"].rpartition(".")[2]
        known = [reader["name"].rpartition(".")[2], *reader.get("aliases", ())]
        return short in known or writer["name"] in known

    def primitive(self, kind: str, wants: str | None, target: str) -> Plan:
        if kind == "null":
            self.emit(f"{target} = None")
        elif kind in ("int", "long"):
            self.emit(
                f"{target} = b[i]",
                f"if {target} < 128:",
                f"    {target} = ({target} >> 1) ^ -({target} & 1)",
                "    i += 1",
                "else:",
                f"    {target}, i = read_long(b, i)",
            )
        elif kind in ("string", "bytes"):
            self.length()
            self.emit("j = i + (n >> 1)")
            if wants is not None or kind == "string":  # an unwanted text must still be one
                self.emit(f"{target} = b[i:j]{'.decode()' if kind == 'string' else ''}")
            self.emit("i = j")
        elif kind == "boolean":
            self.emit(
                f"{target} = b[i]",
                "i += 1",
                f"if {target} > 1:",
                "    refuse('a boolean is neither 0 nor 1')",
                f"{target} = {target} == 1",
            )
        else:
            form, size = ("<f", 4) if kind == "float" else ("<d", 8)
            self.emit(f"({target},) = unpack_from({form!r}, b, i)", f"i += {size}")
        plan: Plan = (PRIMITIVE_OPS[kind],)
        if wants is not None and wants != kind:
            how, step = _PROMOTIONS[kind, wants]
            self.emit(f"{target} = {how.format(target)}")
            plan = plan if step is None else (step, plan)
        return plan

    def length(self) -> None:
        self.emit("n = b[i]", "i += 1", "if n & 129:", "    n, i = read_length(b, i - 1)")

    def fixed(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        size = int(writer["size"])
        self.emit(f"{target} = b[i:i + {size}]", f"i += {size}")
        return (Op.FIXED, size)

    def enum(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        """A symbol that ours lacks becomes our default, or refuses the record."""
        symbols = list(writer["symbols"])
        if reader is not None:
            known, default = set(reader["symbols"]), reader.get("default")
            symbols = [symbol if symbol in known else default for symbol in symbols]
        table = self.name()
        self.scope[table] = {index: symbol for index, symbol in enumerate(symbols) if symbol}
        why = f"unknown symbol of {writer['name']}"
        self.primitive("int", "int", target)
        self.emit(
            f"{target} = {table}.get({target})",
            f"if {target} is None:",
            f"    refuse({why!r})",
        )
        return (Op.ENUM, tuple(symbol or None for symbol in symbols), why)

    def union(self, writer: list[Schema], reader: Schema | None, target: str) -> Plan:
        index, plans = self.name(), []
        self.emit(f"{index} = b[i]", "i += 1")
        if len(writer) > 63:
            raise self.refused("a union of more than 63 branches")
        for number, branch in enumerate(writer):
            self.emit(f"{'if' if number == 0 else 'elif'} {index} == {2 * number}:")
            mark = (len(self.lines), len(self.path), self.indent, self.blocks)
            self.indent += 1
            self.emit("pass")
            self.path.append(f"<{kind_of(self.written(branch))}>")
            try:
                plans.append(self.value(branch, reader, target))
            except SchemaRefusedError as refused:
                if self.nodes > NODES_MAX or len(self.path) > DEPTH_MAX:
                    raise
                del self.lines[mark[0] :]  # only a record that uses this branch is unreadable
                self.indent = mark[2] + 1
                self.emit(f"refuse({str(refused)!r})")
                plans.append((Op.REFUSED, str(refused)))
            del self.path[mark[1] :]
            self.indent, self.blocks = mark[2:]
        self.emit("else:", "    refuse('no such branch of a union')")
        return (Op.UNION, tuple(plans))

    # -------------------------------------------------------------------------------- containers

    def array(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        item = self.name()
        self.emit(f"{target} = []")
        with_items = None if reader is None else reader["items"]
        items = self.block(writer["items"], with_items, item, None, f"{target}.append({item})")
        as_tuples = reader is not None and self.constructors is not None
        if as_tuples:
            self.emit(f"{target} = tuple({target})")
        return (Op.ARRAY, items, as_tuples, reader is not None)

    def map(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        key, item = self.name(), self.name()
        self.emit(f"{target} = {{}}")
        with_values = None if reader is None else reader["values"]
        keep = f"{target}[{key}] = {item}"
        plan = self.block(writer["values"], with_values, item, key, keep)
        return (Op.MAP, plan, with_values is not None)

    def block(
        self, writer: Schema, reader: Schema | None, item: str, key: str | None, keep: str
    ) -> Plan:
        """Emits the loops over blocks and items; ``keep`` is what is done with each item."""
        if key is None and self.takes_no_bytes(writer):
            raise self.refused("an array whose items take no bytes")
        self.blocks += 1
        if self.blocks > BLOCKS_MAX:
            raise self.refused(f"arrays and maps nest deeper than {BLOCKS_MAX}")
        self.emit(
            "while True:",
            "    n = b[i]",
            "    i += 1",
            "    if n == 0:",
            "        break",
            "    if n & 129:",
            "        n, i = read_count(b, i - 1)",
            "    for _ in range(n >> 1):",
        )
        self.indent += 2
        self.path.append("[]")
        if key is not None:
            self.primitive("string", "string", key)
        plan = self.value(writer, reader, item)
        if reader is not None:
            self.emit(keep)
        self.path.pop()
        self.indent -= 2
        self.blocks -= 1
        return plan

    def takes_no_bytes(self, schema: Schema) -> bool:
        """Whether a value can be of no bytes at all: then a count would cost nothing to write."""
        schema = self.written(schema)
        kind = kind_of(schema)
        if kind == "record":
            name = schema["name"]
            if name not in self.empty:
                self.empty[name] = False  # a record within itself is refused elsewhere
                self.empty[name] = all(self.takes_no_bytes(f["type"]) for f in schema["fields"])
            return self.empty[name]
        return kind == "null" or (kind == "fixed" and schema["size"] == 0)

    def record(self, writer: Schema, reader: Schema | None, target: str) -> Plan:
        wanted = {} if reader is None else {f["name"]: f for f in reader["fields"]}
        alias = {a: name for name, f in wanted.items() for a in f.get("aliases", ())}
        places = {name: place for place, name in enumerate(wanted)}
        values: dict[str, str] = {}
        plans: list[Plan] = []
        for field in writer["fields"]:
            name = field["name"] if field["name"] in wanted else alias.get(field["name"], "")
            ours = wanted.get(name)
            place = self.name()
            self.path.append(field["name"])
            plan = self.value(field["type"], None if ours is None else ours["type"], place)
            plans.append((places.get(name, -1), plan))
            self.path.pop()
            if ours is not None:
                values[name] = place
        if reader is None:
            return (Op.RECORD, tuple(plans), (), None)
        defaults: dict[str, Any] = dict.fromkeys(wanted)
        for name, ours in wanted.items():
            if name not in values:
                if "default" not in ours:
                    raise self.refused(f"the field {name} is missing and has no default")
                defaults[name] = self.default(ours["type"], ours["default"])
                values[name] = repr(defaults[name])
        made = self.construct(reader, [(name, values[name]) for name in wanted], target)
        return (Op.RECORD, tuple(plans), tuple(defaults.values()), made)

    def construct(
        self, reader: Schema, values: list[tuple[str, str]], target: str
    ) -> tuple[str, ...] | Callable[..., Any]:
        """Emits the making of a record; returns its constructor, or the names of its fields."""
        if self.constructors is None:
            pairs = ", ".join(f"{name!r}: {value}" for name, value in values)
            self.emit(f"{target} = {{{pairs}}}")
            return tuple(name for name, _ in values)
        short = reader["name"].rpartition(".")[2]
        make = f"make_{self.name()}"
        self.scope[make] = self.constructors[short]
        self.emit(f"{target} = {make}({', '.join(value for _, value in values)})")
        return self.constructors[short]

    def default(self, schema: Schema, value: Any) -> Any:
        """A field's default as the value it stands for (bytes are written as text in JSON)."""
        schema = self.wanted(schema)
        if value is None:
            return None
        if isinstance(schema, list):  # a union's default is of its first branch
            schema = self.wanted(schema[0])
        kind = kind_of(schema)
        if kind in ("bytes", "fixed"):
            return str(value).encode("latin-1")
        if kind == "record":
            raise self.refused("a record as a default is not supported")
        if kind == "array":
            items = [self.default(schema["items"], item) for item in value]
            return items if self.constructors is None else tuple(items)
        if kind == "map":
            return {key: self.default(schema["values"], item) for key, item in value.items()}
        return float(value) if kind in ("float", "double") else value
