"""Encodes what people and other programs hand in, and says what is wrong with it.

Ten times slower than the compiled writers, because every field is looked at: a misspelt
optional field would otherwise be lost without a word.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from typing import Any

import fastavro
from fastavro.validation import ValidationError

from streams.wire.contracts import Contract


class EncodeError(ValueError):
    """A mapping that does not fit its record; the text says which field and what is expected."""


class CheckedWriter:
    """Encodes mappings as one record type."""

    def __init__(self, contract: Contract) -> None:
        self._name = contract.name
        self._header = contract.header
        self._schema = fastavro.parse_schema(contract.schema)
        self._fields = {field["name"]: field for field in contract.schema["fields"]}

    def encode(self, mapping: Mapping[str, Any]) -> bytes:
        """Single-object encoding of ``mapping``; fields left out take their defaults.

        Raises EncodeError.
        """
        wrong = self._wrong_names(mapping)
        if wrong:
            raise EncodeError("; ".join(wrong))
        output = io.BytesIO()
        output.write(self._header)
        try:
            fastavro.validate(mapping, self._schema, raise_errors=True)
            fastavro.schemaless_writer(output, self._schema, mapping, disable_tuple_notation=True)
        except ValidationError as error:
            raise EncodeError("; ".join(str(one) for one in error.errors)) from None
        except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
            raise EncodeError(f"{self._name}: {error}") from None
        return output.getvalue()

    def _wrong_names(self, mapping: Mapping[str, Any]) -> list[str]:
        wrong = []
        for name in mapping:
            if name not in self._fields:
                near = difflib.get_close_matches(str(name), self._fields, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                wrong.append(f"{self._name} has no field {name}{hint}")
        for name, field in self._fields.items():
            if name not in mapping and "default" not in field:
                wrong.append(f"{self._name}.{name} is missing")
        return wrong
