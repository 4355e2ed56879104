"""Reads a document section by section, collecting problems instead of stopping at the first."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, get_origin

import msgspec
from pydantic import ValidationError

from streams.configuration.document import Document, written_at
from streams.configuration.explain import problems_of, unknown_key
from streams.configuration.problems import Path, Problem, one_of
from streams.configuration.shape import (
    given_fields,
    keys,
    model_of,
    struct_of,
    table_under,
    takes_text,
    takes_texts,
)

SECRET_FILE_BYTES_MAX = 1 << 20

Struct = type[msgspec.Struct]
T = TypeVar("T", bound=msgspec.Struct)
NOTHING: frozenset[str] = frozenset()


class Sections:
    """A document's sections as structs; ``problems`` and ``known`` grow while they are read."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = list(document.problems)
        self.known: list[Path] = []
        """Every key that could have been written, but for those in lists of tables."""

    def add(self, problems: Iterable[Problem]) -> None:
        """Problems of meaning, but for keys that are wrong already, or whose table is."""
        wrong = [problem.path for problem in self.problems]
        for problem in problems:
            path = problem.path
            table = path[:2] if path[0] in ("categories", "providers") else path
            if not any(other[: len(table)] == table for other in wrong):
                self.problems.append(problem)

    def root(self, struct: type[T], sections: list[str]) -> T | None:
        """The plain keys at the top. What is neither one of them nor a section is a problem."""
        known = [*keys(struct), *sections]
        values = {}
        for name, value in self.document.values.items():
            if name in keys(struct) or name.removesuffix("_file") in keys(struct):
                values[name] = value
            elif name not in sections:
                self.problems.append(Problem((name,), unknown_key(name, known)))
        table = self._validated(values, (), struct, NOTHING)
        return None if table is None else struct_of(struct, table)

    def table(self, name: str, struct: type[T]) -> T | None:
        """A section as its struct."""
        table = self._validated(self.document.values.get(name, {}), (name,), struct, NOTHING)
        return None if table is None else struct_of(struct, table)

    def open_table(self, name: str, struct: Struct, left_out: frozenset[str]) -> dict[str, Any]:
        """Field -> value of what a section says; ``left_out`` fields are no keys of it."""
        table = self._validated(self.document.values.get(name, {}), (name,), struct, left_out)
        return {} if table is None else given_fields(struct, table)

    def tables(self, name: str, struct: type[T]) -> list[T]:
        """``[[name]]``: a list of structs."""
        given = self.document.values.get(name, [])
        if not isinstance(given, list):
            why = f"expected a list of tables: write [[{name}]] above each"
            self.problems.append(Problem((name,), why))
            return []
        found = [
            self._validated(value, (name, place), struct, NOTHING)
            for place, value in enumerate(given)
        ]
        return [struct_of(struct, table) for table in found if table is not None]

    def named(self, name: str, struct: Struct, left_out: frozenset[str]) -> dict[str, Any]:
        """``[name.KEY]``: KEY -> what it says."""
        found = {}
        for key, value in self._tables_by_name(name).items():
            table = self._validated(value, (name, key), struct, left_out)
            if table is not None:
                found[key] = given_fields(struct, table)
        return found

    def named_by_type(self, name: str, structs: dict[str, Struct]) -> dict[str, Any]:
        """``[name.KEY]`` with a ``type``, which may be left out when KEY is one."""
        found = {}
        for key, value in self._tables_by_name(name).items():
            if not isinstance(value, dict):
                where = f"expected a table: [{name}.{key}]"
                self.problems.append(Problem((name, key), where, value))
                continue
            given = dict(value)
            kind = given.pop("type", key)
            struct = structs.get(kind) if isinstance(kind, str) else None
            if struct is None:
                path = (name, key, "type")
                written = written_at(self.document, path)
                self.problems.append(Problem(path, one_of(kind, sorted(structs)), written))
                continue
            table = self._validated(given, (name, key), struct, frozenset({"name"}))
            if table is not None:
                found[key] = struct_of(struct, table, name=key)
        return found

    def _tables_by_name(self, name: str) -> dict[str, Any]:
        given = self.document.values.get(name, {})
        if isinstance(given, dict):
            return given
        self.problems.append(Problem((name,), f"expected tables: write [{name}.NAME] above each"))
        return {}

    def _validated(
        self, value: Any, at: Path, struct: Struct, left_out: frozenset[str]
    ) -> Any | None:
        if not isinstance(value, dict):
            where = ".".join(str(part) for part in at)
            self.problems.append(Problem(at, f"expected a table: [{where}]", value))
            return None
        if not any(isinstance(part, int) for part in at):
            self.known += _paths(at, struct, left_out)
        prepared = self._prepared(value, at, struct)
        model = model_of(struct, left_out)
        try:
            return model.model_validate(prepared)
        except ValidationError as error:
            self.problems += problems_of(error, self.document, at, struct, left_out)
            wrong = {one["loc"][0] for one in error.errors()}
        try:  # what is right is still looked at, so that all mistakes are found at once
            return model.model_validate({k: v for k, v in prepared.items() if k not in wrong})
        except ValidationError:
            return None

    def _prepared(self, table: dict[str, Any], at: Path, struct: Struct) -> dict[str, Any]:
        """The table with ``KEY_file`` read, and texts of the environment as their keys want."""
        known = keys(struct)
        prepared: dict[str, Any] = {}
        for name, value in table.items():
            path = (*at, name)
            target = name.removesuffix("_file")
            if name not in known and target != name and target in known:
                self._from_file(path, target, value, prepared, known[target].annotation)
                continue
            prepared[name] = value
            if name in known and path in self.document.variables:
                prepared[name] = _typed(known[name].field, known[name].annotation, value)
            below = table_under(known[name].annotation) if name in known else None
            if below is not None:
                prepared[name] = self._inside(value, path, below)
        return prepared

    def _inside(self, value: Any, at: Path, struct: Struct) -> Any:
        """The same for tables in a table, and in a list of tables."""
        if isinstance(value, list):
            return [self._inside(item, (*at, place), struct) for place, item in enumerate(value)]
        return self._prepared(value, at, struct) if isinstance(value, dict) else value

    def _from_file(
        self, path: Path, target: str, value: Any, prepared: dict[str, Any], annotation: Any
    ) -> None:
        """Reads a value that is kept in a file of its own; a list has one item a line."""
        if not isinstance(value, str) or not (takes_text(annotation) or takes_texts(annotation)):
            self.problems.append(Problem(path, "expected the path of a file with a text", value))
            return
        try:
            with (self.document.folder / value).open("rb") as file:
                text = file.read(SECRET_FILE_BYTES_MAX).decode("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            number = error.errno if isinstance(error, OSError) else None
            why = os.strerror(number) if number else "it is not text"
            self.problems.append(Problem(path, f"{value} cannot be read: {why}"))
            return
        prepared[target] = text.splitlines() if takes_texts(annotation) else text


def _paths(at: Path, struct: Struct, left_out: frozenset[str]) -> Iterator[Path]:
    for name, key in keys(struct).items():
        if key.field in left_out:
            continue
        yield (*at, name)
        below = table_under(key.annotation)
        if below is not None and get_origin(key.annotation) is not tuple:
            yield from _paths((*at, name), below, NOTHING)


def _typed(field: str, annotation: Any, text: Any) -> Any:
    """A text of the environment as TOML would have it, unless its key wants a text."""
    parts = field.split("_")
    if not isinstance(text, str) or takes_text(annotation) or "ms" in parts:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
