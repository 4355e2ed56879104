"""One path, three formats: a page for people, JSON for programs, CSV of any listing.

``?format=html|json|csv`` says it outright; else a path that ends in ``.json``, else ``Accept``;
else it is a page. A page that shows itself anew while it is open asks with ``?format=events``.

Pure. Invariant: a CSV cell never begins with what a spreadsheet takes for a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import msgspec
from aiohttp import web

from streams.api.problems import refuse

Format = Literal["html", "json", "csv", "events"]
FORMATS: tuple[Format, ...] = get_args(Format)
JSON_SUFFIX = ".json"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def wanted(request: web.Request) -> Format:
    """What the request asks for. Raises ``ProblemError`` (422) for a format that is none."""
    named = request.query.get("format")
    if named is not None:
        for known in FORMATS:
            if named == known:
                return known
        raise refuse("invalid", f"format must be one of {', '.join(FORMATS)}.")
    if request.path.endswith(JSON_SUFFIX):
        return "json"
    accept = request.headers.get("Accept", "")
    if "text/html" in accept:
        return "html"
    if "application/json" in accept:
        return "json"
    return "csv" if "text/csv" in accept else "html"


def without_suffix(request: web.Request, value: str) -> str:
    """The last part of a path without the ``.json`` that only asked for a format."""
    if "format" in request.query:
        return value
    return value.removesuffix(JSON_SUFFIX)


def as_json(document: Any) -> bytes:
    """A document for programs."""
    return msgspec.json.encode(document)


def as_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A listing, with a header line; columns are those of the first row."""
    out = io.StringIO()
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(out, list(row), extrasaction="ignore", lineterminator="\r\n")
            writer.writeheader()
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value
