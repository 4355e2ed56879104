"""What is around an Avro value on the wire, and which schemas we know.

Two framings are accepted on every input topic: Avro's single-object encoding (C3 01 and the
schema's CRC-64-AVRO fingerprint, little endian) and Confluent's (00 and a registry's id, big
endian). We write the first: it needs no registry to be read.

Invariants
- The contracts are the files in ``schemas/``; ``schemas/released/*/`` are those of releases that
  are out there, which stay readable. Nothing is loaded at import.
- A fingerprint is of the parsing canonical form: docs and defaults do not change it.

Source: https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding and
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro.schema
import msgspec

SINGLE_OBJECT_MARK = b"\xc3\x01"
SINGLE_OBJECT_BYTES = 10
CONFLUENT_MARK = b"\x00"
CONFLUENT_BYTES = 5


class Contract(msgspec.Struct, frozen=True):
    """One schema file: the record's name, its JSON, and the header of what it writes."""

    name: str
    schema: dict[str, Any]
    header: bytes


class Contracts(msgspec.Struct, frozen=True):
    """The schemas of this release by record name, and those of every release so far."""

    current: dict[str, Contract]
    released: tuple[tuple[str, Contract], ...]
    """(release, contract), oldest first."""


def schemas_folder() -> Path:
    """``schemas/`` of the checkout, else the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "schemas", package / "schemas"):
        if (folder / "event.avsc").is_file():
            return folder
    raise FileNotFoundError("the schemas folder is neither beside nor inside the streams package")


def canonical_form(schema: Any) -> str:
    """Avro's parsing canonical form: equal texts are read the same way."""
    return str(fastavro.schema.to_parsing_canonical_form(schema))


def fingerprint(schema: Any) -> bytes:
    """CRC-64-AVRO of the canonical form, 8 bytes, little endian as on the wire."""
    return bytes.fromhex(fastavro.schema.fingerprint(canonical_form(schema), "CRC-64-AVRO"))


def single_object_header(schema: Any) -> bytes:
    """The 10 bytes before a value in single-object encoding."""
    return SINGLE_OBJECT_MARK + fingerprint(schema)


def confluent_header(schema_id: int) -> bytes:
    """The 5 bytes before a value in Confluent's wire format."""
    return CONFLUENT_MARK + schema_id.to_bytes(4, "big")


def header_of(value: bytes) -> bytes:
    """The bytes that say which schema wrote ``value`` (fewer when it is too short)."""
    return value[:CONFLUENT_BYTES] if value[0] == 0 else value[:SINGLE_OBJECT_BYTES]


def load_contracts(folder: Path | None = None) -> Contracts:
    """Reads every schema file. Raises FileNotFoundError or ValueError for a broken set-up."""
    folder = folder or schemas_folder()
    releases = sorted(
        (path for path in (folder / "released").iterdir() if path.is_dir()), key=_release_order
    )
    return Contracts(
        current={contract.name: contract for contract in _load_folder(folder)},
        released=tuple((r.name, contract) for r in releases for contract in _load_folder(r)),
    )


def _release_order(path: Path) -> tuple[int, str]:
    digits = path.name.lstrip("v")
    return (int(digits), "") if digits.isdigit() else (1 << 30, path.name)


def _load_folder(folder: Path) -> list[Contract]:
    contracts = []
    for path in sorted(folder.glob("*.avsc")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        if schema.get("name") != path.stem:
            raise ValueError(f"{path.name} must declare the record {path.stem}")
        contracts.append(Contract(path.stem, schema, single_object_header(schema)))
    return contracts
