"""What a compiled reader or writer does, as a tree of tuples that ``native/`` carries out.

``reader.py`` and ``writer.py`` make a plan beside the Python function that does the same; it is
used where the extension was compiled (``deploy/compile.sh``), the function everywhere else.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

try:
    from streams.wire import _native
except ImportError:
    _native = None  # type: ignore[assignment]

__all__ = ["ARGUMENTS", "ATTRIBUTES", "ITEMS", "PRIMITIVE_OPS", "Op", "Plan", "native"]

native: Any = _native
"""The extension, or ``None`` where it was not compiled."""
Plan = tuple[Any, ...]
"""A node: its ``Op``, then what the table at the top of ``native/plan.h`` says."""


class Op(IntEnum):
    """What a node reads or writes; the numbers are those of ``native/plan.h``."""

    NULL = 0
    BOOLEAN = 1
    LONG = 2
    FLOAT = 3
    DOUBLE = 4
    BYTES = 5
    STRING = 6
    FIXED = 7
    ENUM = 8
    UNION = 9
    ARRAY = 10
    MAP = 11
    RECORD = 12
    REFUSED = 13
    TO_FLOAT = 14
    TO_BYTES = 15
    TO_STRING = 16


ATTRIBUTES, ITEMS, ARGUMENTS = range(3)
"""Where a writer finds its record's fields: a struct's, a mapping's, or one argument each."""

PRIMITIVE_OPS: dict[str, Op] = {
    "null": Op.NULL,
    "boolean": Op.BOOLEAN,
    "int": Op.LONG,
    "long": Op.LONG,
    "float": Op.FLOAT,
    "double": Op.DOUBLE,
    "bytes": Op.BYTES,
    "string": Op.STRING,
}
