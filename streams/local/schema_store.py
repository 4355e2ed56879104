"""What a schema registry remembers: schemas by id, versions by subject, levels of compatibility.

Pure but for one small file. Ids and versions never change once given, so the file is written whole,
to a new name, fsynced and renamed before anybody is told.

Invariants
- Equal schemas (as JSON, whatever their spelling) have one id, over all subjects.
- A subject takes a new version only if its level of compatibility allows it.
- Bounded: schemas and the size of each.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from streams import topics
from streams.wire.compatibility import InvalidSchemaError, incompatibilities, parsed
from streams.wire.contracts import Contracts

SCHEMAS_MAX = 10_000
SCHEMA_BYTES_MAX = 262_144
LEVELS = (
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
    "NONE",
)
DEFAULT_LEVEL = "BACKWARD"
OUR_LEVEL = "FULL_TRANSITIVE"
"""Of our own subjects: this product reads with its own schema whatever a producer registers, so a
field that we need must be in theirs (``BACKWARD`` would let them leave it out)."""


class Registered(msgspec.Struct, frozen=True):
    """One version of a subject."""

    subject: str
    version: int
    id: int
    schema: str


class StoreError(Exception):
    """A refusal, with Confluent's error code: its first three digits are the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _File(msgspec.Struct):
    schemas: dict[int, str] = {}
    subjects: dict[str, list[int]] = {}
    """Subject -> ids, version 1 first."""
    levels: dict[str, str] = {}
    """Subject -> its level; the empty subject is everybody's."""


class SchemaStore:
    """The registry without HTTP. Every method returns at once; failures are ``StoreError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File()
        if path.exists():
            try:
                self._file = msgspec.json.decode(path.read_bytes(), type=_File)
            except msgspec.DecodeError as error:
                raise ValueError(f"{path.name} is damaged ({error}): ids would change") from error
        self._ids = {_identity(text): number for number, text in self._file.schemas.items()}

    # ------------------------------------------------------------------------------------- reading

    def subjects(self) -> list[str]:
        """All subjects, sorted."""
        return sorted(self._file.subjects)

    def versions(self, subject: str) -> list[int]:
        """Version numbers of a subject, oldest first."""
        return list(range(1, len(self._of(subject)) + 1))

    def version(self, subject: str, version: str) -> Registered:
        """A version by number, or ``latest`` (also -1)."""
        ids = self._of(subject)
        if version in ("latest", "-1"):
            number = len(ids)
        elif version.isascii() and version.isdigit() and 0 < int(version) < 1 << 31:
            number = int(version)
        else:
            raise StoreError(
                42202,
                f"The specified version '{version}' is not a valid version id. Allowed values are"
                ' between [1, 2^31-1] and the string "latest"',
            )
        if number > len(ids):
            raise StoreError(40402, f"Version {number} not found.")
        return Registered(subject, number, ids[number - 1], self._file.schemas[ids[number - 1]])

    def schema(self, schema_id: str) -> str:
        """The text of a schema by its id."""
        number = int(schema_id) if schema_id.isascii() and schema_id.isdigit() else 0
        if number not in self._file.schemas:
            raise StoreError(40403, f"Schema {schema_id} not found")
        return self._file.schemas[number]

    def users(self, schema_id: str) -> list[tuple[str, int]]:
        """(subject, version) of everything that uses an id."""
        self.schema(schema_id)
        return [
            (subject, place + 1)
            for subject, ids in sorted(self._file.subjects.items())
            for place, number in enumerate(ids)
            if number == int(schema_id)
        ]

    def find(self, subject: str, text: str) -> Registered:
        """The version of a subject that has this schema."""
        ids = self._of(subject)
        found = self._ids.get(_identity(_valid(text)))
        if found is None or found not in ids:
            raise StoreError(40403, "Schema not found")
        return Registered(subject, ids.index(found) + 1, found, self._file.schemas[found])

    def level(self, subject: str = "", or_global: bool = True) -> str:
        """A subject's level of compatibility, or the one for all."""
        own = self._file.levels.get(subject)
        if own is None and subject and not or_global:
            raise StoreError(
                40408,
                f"Subject '{subject}' does not have subject-level compatibility configured",
            )
        return own or self._file.levels.get("", DEFAULT_LEVEL)

    def disagreements(self, subject: str, text: str, version: str | None = None) -> list[str]:
        """Why a schema may not follow: against one version, or those that the level names."""
        _valid(text)
        level = self.level(subject)
        if version is not None:
            earlier = [self.version(subject, version).schema]
        else:
            earlier = [self._file.schemas[n] for n in self._file.subjects.get(subject, [])]
            earlier = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
        problems = []
        for old in earlier:
            if level.startswith(("BACKWARD", "FULL")):
                problems += [f"new cannot read old: {why}" for why in incompatibilities(text, old)]
            if level.startswith(("FORWARD", "FULL")):
                problems += [f"old cannot read new: {why}" for why in incompatibilities(old, text)]
        return problems

    # ------------------------------------------------------------------------------------- writing

    def register(self, subject: str, text: str, is_judged: bool = False) -> Registered:
        """Makes a schema the newest version of a subject, unless it is a version already.

        ``is_judged``: its compatibility has been checked elsewhere.
        """
        identity = _identity(_valid(text))
        ids = self._file.subjects.get(subject, [])
        number = self._ids.get(identity)
        if number is not None and number in ids:
            return Registered(subject, ids.index(number) + 1, number, self._file.schemas[number])
        problems = [] if is_judged else self.disagreements(subject, text)
        if problems:
            raise StoreError(
                409,
                "Schema being registered is incompatible with an earlier schema for subject"
                f' "{subject}", details: {problems}, compatibility: {self.level(subject)}',
            )
        if number is None:
            if len(self._file.schemas) >= SCHEMAS_MAX:
                raise StoreError(42205, f"This registry keeps at most {SCHEMAS_MAX} schemas.")
            number = len(self._file.schemas) + 1
            self._file.schemas[number] = text
            self._ids[identity] = number
        self._file.subjects[subject] = [*ids, number]
        self._write()
        return Registered(subject, len(ids) + 1, number, self._file.schemas[number])

    def set_level(self, subject: str, level: str) -> str:
        """Sets a subject's level; the empty subject's is for all that have none."""
        if level not in LEVELS:
            raise StoreError(
                42203, f"Invalid compatibility level. Valid values are {', '.join(LEVELS)}"
            )
        self._file.levels[subject] = level
        self._write()
        return level

    def preload(self, contracts: Contracts) -> None:
        """Registers our contracts under ``<topic>-value``, those of the first release first.

        A test of the project judges them, so nothing that a producer registered meanwhile keeps
        a new release from starting.
        """
        releases = [*(c for _, c in contracts.released), *contracts.current.values()]
        for spec in topics.SPECS:
            if spec.schema is None:
                continue
            for contract in releases:
                if contract.name == spec.schema:
                    self.register(f"{spec.name}-value", json.dumps(contract.schema), True)
            self._file.levels.setdefault(f"{spec.name}-value", OUR_LEVEL)
        self._write()

    # ----------------------------------------------------------------------------------- internals

    def _of(self, subject: str) -> list[int]:
        if subject not in self._file.subjects:
            raise StoreError(40401, f"Subject '{subject}' not found.")
        return self._file.subjects[subject]

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(self._file))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _valid(text: str) -> str:
    """The text, if it is an Avro schema."""
    if len(text) > SCHEMA_BYTES_MAX:
        raise StoreError(42201, f"Invalid schema: more than {SCHEMA_BYTES_MAX} bytes")
    try:
        parsed(text)
    except InvalidSchemaError as error:
        raise StoreError(42201, f"Invalid schema, details: {error}") from error
    return text


def _identity(text: str) -> str:
    """Two spellings of the same JSON are the same schema."""
    value: Any = json.loads(text)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
