"""Whether a reader's schema can read what a writer's schema writes, judged by Apache's library.

A second opinion on purpose: our own reader (``reader.py``) resolves schemas by itself, so what may
be released or registered is not judged by the same code.
"""

from __future__ import annotations

import json
from typing import Any

import avro.errors
import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker


class InvalidSchemaError(ValueError):
    """Not an Avro schema at all; the text says why."""


def parsed(schema: Any) -> avro.schema.Schema:
    """A schema (as Python or as its JSON text) as Apache's library sees it.

    Raises InvalidSchemaError.
    """
    text = schema if isinstance(schema, str) else json.dumps(schema)
    try:
        return avro.schema.parse(text)
    except (avro.errors.AvroException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidSchemaError(f"{type(error).__name__}: {error}") from error
    except RecursionError as error:
        raise InvalidSchemaError("the schema nests too deep") from error


def incompatibilities(reader: Any, writer: Any) -> list[str]:
    """Why ``reader`` cannot read what ``writer`` writes; empty when it can."""
    checker: Any = ReaderWriterCompatibilityChecker  # its constructor has no types
    result = checker().get_compatibility(parsed(reader), parsed(writer))
    if result.compatibility.value == "compatible":
        return []
    kinds = sorted({kind.value for kind in result.incompatibilities})
    places = ", ".join(sorted(result.locations))
    return [f"{', '.join(kinds)} at {places}: {'; '.join(sorted(result.messages))}"]
