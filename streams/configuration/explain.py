"""Turns what a validation model says into problems: the key, the value, what would be right."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, get_args, get_origin

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streams.configuration.document import Document, written_at
from streams.configuration.problems import Path, Problem, did_you_mean, one_of
from streams.configuration.quantities import (
    DURATION_EXPECTED,
    SIZE_EXPECTED,
    URL_EXPECTED,
    duration_text,
)
from streams.configuration.shape import NO_RANGE, is_url, keys, table_under

Struct = type[msgspec.Struct]
OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than_equal"})
KEYS_SHOWN_MAX = 24
"""Of a section, when no key is near the one that is wrong."""


def problems_of(
    error: ValidationError, document: Document, at: Path, struct: Struct, left_out: frozenset[str]
) -> list[Problem]:
    """Every mistake in the table at ``at``, which ``struct`` describes."""
    return [_problem(one, document, at, struct, left_out) for one in error.errors()]


def _problem(
    error: ErrorDetails, document: Document, at: Path, struct: Struct, left_out: frozenset[str]
) -> Problem:
    inside: Path = error["loc"]
    path = (*at, *inside)
    value = written_at(document, path)
    kind = error["type"]
    if kind == "extra_forbidden":
        known = [key.name for key in keys(_struct_at(struct, inside[:-1])).values()]
        known = [n for n in known if len(inside) > 1 or keys(struct)[n].field not in left_out]
        return Problem(path, unknown_key(inside[-1], known), value)
    if kind == "missing":
        return Problem(path, f"is missing: {_expected(struct, inside, value)}")
    if kind == "value_error":
        return Problem(path, error["msg"].removeprefix("Value error, "), value)
    if kind == "string_too_short":
        return Problem(path, "is empty, and this cannot work without it", value)
    if kind in OUT_OF_RANGE:
        field, _, its_range = _declared(struct, inside)
        return Problem(path, f"expected {range_words(field, its_range)}", value)
    return Problem(path, _expected(struct, inside, value), value)


def unknown_key(name: Any, known: list[str]) -> str:
    """For a key that nothing has: the nearest one, or all there are."""
    near = did_you_mean(name, known)
    names = sorted(known)
    more = f" and {len(names) - KEYS_SHOWN_MAX} more" if len(names) > KEYS_SHOWN_MAX else ""
    listed = f"; keys are {', '.join(names[:KEYS_SHOWN_MAX])}{more}"
    return f"is not a key here{near or listed}"


def _struct_at(struct: Struct, inside: Path) -> Struct:
    for part in inside:
        if not isinstance(part, int) and part in keys(struct):
            struct = table_under(keys(struct)[part].annotation) or struct
    return struct


def _expected(struct: Struct, inside: Path, value: Any) -> str:
    """What the key at ``inside`` takes, in words."""
    field, annotation, its_range = _declared(struct, inside)
    return expected(field, annotation, value, its_range)


def _declared(struct: Struct, inside: Path) -> tuple[str, Any, msgspec.Meta]:
    """The field at ``inside``, its type and its range."""
    annotation: Any = struct
    field, its_range = "", NO_RANGE
    for part in inside:
        if isinstance(part, int) or get_origin(annotation) is dict:
            annotation, field = get_args(annotation)[-2 if isinstance(part, int) else -1], ""
            continue
        annotation = _without_none(annotation)
        below = table_under(annotation)
        if below is None or part not in keys(below):
            break
        key = keys(below)[part]
        field, annotation, its_range = key.field, key.annotation, key.range
    return field, annotation, its_range


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def range_words(field: str, its_range: msgspec.Meta) -> str:
    """``1 to 4096``, ``at least "1ms"``, ``more than 0``."""
    if its_range.gt is not None:
        return f"more than {its_range.gt:g}"
    low = _bound(field, its_range.ge or 0)
    return f"at least {low}" if its_range.le is None else f"{low} to {_bound(field, its_range.le)}"


def _bound(field: str, value: float) -> str:
    is_duration = "ms" in field.split("_") and value
    return f'"{duration_text(int(value))}"' if is_duration else f"{value:.15g}"


def expected(
    field: str, annotation: Any, value: Any = "", its_range: msgspec.Meta = NO_RANGE
) -> str:
    """What a key takes, in words; near misses of a choice are named."""
    inner = _without_none(annotation)
    ending = "" if inner is annotation else ", or false for none"
    if get_origin(inner) is Literal:
        return one_of(value, [str(one) for one in get_args(inner)]) + ending
    if get_origin(inner) is tuple:
        each = field if is_url(field) else ""
        item = expected(each, get_args(inner)[0], "", its_range).removeprefix("expected ")
        return f"expected a list, each item {item}{ending}"
    if get_origin(inner) is dict:
        return f"expected a table{ending}"
    parts = field.split("_")
    if inner is int and "ms" in parts:
        return f"expected {DURATION_EXPECTED}{ending}"
    if inner is int and "bytes" in parts:
        return f"expected {SIZE_EXPECTED}{ending}"
    if inner is str and is_url(field):
        return f"expected {URL_EXPECTED}{ending}"
    its_words = "0 or more" if its_range == NO_RANGE else range_words(field, its_range)
    words = {
        int: f"a whole number, {its_words}",
        float: f"a number, {its_words}",
        str: 'text in quotes: "..."',
        bool: "true or false",
    }
    return f"expected {words.get(inner, 'a table')}{ending}"
