"""The configuration as written: the file, laid over by the environment and the command line.

Precedence, weakest first: the file, ``FLOWSTATE_SECTION__KEY`` variables, overrides. A text may
have ``${NAME}`` in it, which is read from the environment; ``KEY_file = "path"`` reads the value
of ``KEY`` from a file (relative to the configuration's), so that secrets stay out of it.

Invariant: nothing is interpreted here but ``${...}``; what a key means is the shapes' business.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec

from streams.configuration.environment import settings_in
from streams.configuration.problems import Path, Problem, SettingsError

FILE_BYTES_MAX = 4 << 20

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_"'-]+)*)\s*=(.*)"""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class Document(msgspec.Struct):
    """The tables, with the lines of their keys."""

    source: str
    folder: FilePath
    values: dict[str, Any]
    written: dict[str, Any]
    """As ``values``, before ``${...}``: this is what messages show."""
    lines: dict[Path, int]
    variables: dict[Path, str]
    """Paths whose value is a text from the environment, whatever its key wants: the variable."""
    named: set[str]
    """Variables that are used: as keys, or by a ``${...}``."""
    problems: list[Problem]


def read_document(
    path: FilePath, environment: Mapping[str, str], overrides: Mapping[str, Any], roots: set[str]
) -> Document:
    """The document. ``roots`` are plain keys at the top, that a variable may name without ``__``.

    Raises SettingsError when the file is missing or is not TOML.
    """
    source = path.name
    try:
        data = path.read_bytes()
        if len(data) > FILE_BYTES_MAX:
            raise SettingsError(source, [_whole(f"is larger than {FILE_BYTES_MAX} bytes")], {})
        text = data.decode("utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        why = f"cannot be read: {os.strerror(error.errno or 0)}"
        raise SettingsError(str(path), [_whole(why)], {}) from None
    except UnicodeDecodeError:
        raise SettingsError(source, [_whole("is not UTF-8")], {}) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(source, [_whole(f"is not TOML: {error}")], {}) from None
    document = Document(source, path.parent, values, values, lines_of(text), {}, set(), [])
    _lay_environment(document, environment, roots)
    for key, value in overrides.items():
        _put(document, tuple(key.split(".")), value)
    document.written = document.values
    document.values = _interpolated(document, document.values, (), environment)
    return document


def _whole(why: str) -> Problem:
    return Problem((), why)


def lines_of(text: str) -> dict[Path, int]:
    """Line numbers of tables and keys. Good enough for messages: inline tables have one line."""
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    closing = ""
    for number, line in enumerate(text.splitlines(), 1):
        if closing:  # inside a text of several lines
            closing = "" if closing in line else closing
            continue
        header = _HEADER.match(line)
        if header and "=" not in header[2]:
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            elif table[:-1] in counts:
                table = (*table[:-1], counts[table[:-1]], table[-1])
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            path = (*table, *_parts(key[1]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            for quotes in ('"""', "'''"):
                if key[2].count(quotes) == 1:
                    closing = quotes
    return lines


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _lay_environment(document: Document, environment: Mapping[str, str], roots: set[str]) -> None:
    for name, path in settings_in(environment, roots):
        _put(document, path, environment[name])
        document.variables[path] = name
        document.named.add(name)


def _put(document: Document, path: tuple[str, ...], value: Any) -> None:
    """Lays a value (or a table, key by key) over what is there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _put(document, (*path, key), inner)
        return
    table = document.values
    for part in path[:-1]:
        below = table.get(part)
        table[part] = table = dict(below) if isinstance(below, dict) else {}
    table[path[-1]] = value
    for written in [line for line in document.lines if line[: len(path)] == path]:
        del document.lines[written]  # the value is not the file's any more
    document.variables.pop(path, None)


def _interpolated(
    document: Document, value: Any, path: Path, environment: Mapping[str, str]
) -> Any:
    if isinstance(value, dict):
        return {
            key: _interpolated(document, inner, (*path, key), environment)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            _interpolated(document, inner, (*path, place), environment)
            for place, inner in enumerate(value)
        ]
    if not isinstance(value, str) or "${" not in value:
        return value
    names = _VARIABLE.findall(value)
    document.named.update(names)
    for name in [name for name in names if name not in environment]:
        why = f"the environment variable {name} is not set"
        document.problems.append(Problem(path, why, value))
    return _VARIABLE.sub(lambda match: environment.get(match[1], ""), value)


def written_at(document: Document, path: Path) -> Any:
    """The value at a path as it was written, or ``msgspec.UNSET``."""
    value: Any = document.written
    for part in path:
        if isinstance(value, str):  # of the environment: a list, or a table, that was not read
            return msgspec.UNSET
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return msgspec.UNSET
    return value
