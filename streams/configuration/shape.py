"""Validation models made from the settings structs, so that a setting is declared once.

A package declares a frozen struct; its fields are the keys of a table. Two endings are written
with a unit instead: ``window_ms`` is the key ``window`` and takes a duration ("1h30m"),
``delay_ms_max`` is ``delay_max``, and a field with ``_bytes`` takes a size ("64MiB"). A text whose
field ends in ``url``, ``urls`` or ``endpoint`` is a URL. A ``msgspec.Meta`` beside a type is its
range (``streams/ranges.py``). A field that may be ``None`` takes ``false`` for it, as TOML has no
null. Any text may be given as ``KEY_file``.

Invariant: a key that no field has is an error, so a misspelt one is never silently ignored.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    create_model,
)

from streams.configuration.quantities import duration_ms, size_bytes, web_url

Duration = Annotated[int, BeforeValidator(duration_ms)]
Size = Annotated[int, BeforeValidator(size_bytes)]
Text = Annotated[str, Strict()]
Url = Annotated[str, Strict(), AfterValidator(web_url)]
NO_RANGE = msgspec.Meta()


class Key(msgspec.Struct, frozen=True):
    """One key of a table."""

    name: str
    field: str
    annotation: Any
    """Of the struct's field."""
    range: msgspec.Meta
    """What its values may be; empty when all may."""
    is_required: bool


class Table(BaseModel):
    """What every model has: no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def key_of(field: str) -> str:
    """``window_ms`` -> ``window``, ``delay_ms_max`` -> ``delay_max``."""
    parts = field.split("_")
    return "_".join(part for part in parts if part != "ms") if len(parts) > 1 else field


@cache
def keys(struct: type[msgspec.Struct]) -> dict[str, Key]:
    """Keys of a struct's table by name."""
    hints = typing.get_type_hints(struct)
    ranges = typing.get_type_hints(struct, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(struct):
        name, its_range = key_of(field.name), range_of(ranges[field.name])
        is_required = field.required or bool(its_range.min_length and not field.default)
        found[name] = Key(name, field.name, hints[field.name], its_range, is_required)
    return found


def range_of(annotation: Any) -> msgspec.Meta:
    """The range that stands beside a type, in a list or beside ``None`` too."""
    for one in getattr(annotation, "__metadata__", ()):
        if isinstance(one, msgspec.Meta):
            return one
    inside = get_args(annotation)
    ranges = (range_of(one) for one in inside if one is not type(None))
    return next((one for one in ranges if one != NO_RANGE), NO_RANGE)


def is_url(field: str) -> bool:
    """Whether a text field is the URL of a server, by its name."""
    return field.rpartition("_")[2] in ("url", "urls", "endpoint")


@cache
def model_of(struct: type[msgspec.Struct], left_out: frozenset[str] = frozenset()) -> type[Table]:
    """The model that validates a struct's table; fields in ``left_out`` come from elsewhere."""
    fields: dict[str, Any] = {}
    for name, key in keys(struct).items():
        if key.field in left_out:
            continue
        annotation = _accepted(key.field, key.annotation, key.range)
        fields[f"{name}_"] = (annotation, Field(... if key.is_required else None, alias=name))
    return create_model(struct.__name__, __base__=Table, **fields)


def struct_of(struct: type[msgspec.Struct], table: BaseModel, **more: Any) -> Any:
    """The struct of a validated table: its own defaults for what was not written."""
    given = given_fields(struct, table)
    return struct(**{**given, **more})


def given_fields(struct: type[msgspec.Struct], table: BaseModel) -> dict[str, Any]:
    """Field -> value of what was written."""
    given = {}
    for name, key in keys(struct).items():
        if f"{name}_" in table.model_fields_set:
            given[key.field] = _built(key.annotation, getattr(table, f"{name}_"))
    return given


def table_of(struct: msgspec.Struct) -> dict[str, Any]:
    """The table that would be written for a struct: what is not at its default, with its units.

    TOML has no null: ``false`` stands for ``None`` where that is not the default.
    """
    table: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if not field.required and value == field.default:
            continue
        if value is None:
            value = False
        if isinstance(value, msgspec.Struct):
            value = table_of(value)
        elif "ms" in field.name.split("_") and isinstance(value, int):
            value = f"{value}ms"
        elif isinstance(value, tuple):
            value = [table_of(one) if isinstance(one, msgspec.Struct) else one for one in value]
        table[key_of(field.name)] = value
    return table


def table_under(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct whose table a value of this type is, in lists and options too."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    for inner in get_args(annotation):
        found = table_under(inner)
        if found is not None:
            return found
    return None


def takes_text(annotation: Any) -> bool:
    """Whether a value written as text can be right."""
    if annotation is str or get_origin(annotation) is Literal:
        return True
    return any(takes_text(inner) for inner in _options(annotation))


def takes_texts(annotation: Any) -> bool:
    """Whether it is a list of texts."""
    return get_origin(annotation) is tuple and get_args(annotation)[0] is str


def _options(annotation: Any) -> Collection[Any]:
    is_union = get_origin(annotation) in (typing.Union, types.UnionType)
    return get_args(annotation) if is_union else ()


def _accepted(field: str, annotation: Any, its_range: msgspec.Meta = NO_RANGE) -> Any:
    """The type that a key takes, from the type and the range that the field has."""
    options = _options(annotation)
    if options:
        some = next(one for one in options if one is not type(None))
        inner = _accepted(field, some, its_range)
        return Annotated[inner | None, BeforeValidator(lambda v: None if v is False else v)]
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        return Annotated[_number(field, annotation), _within(its_range)]
    if annotation is str:
        return Annotated[Url if is_url(field) else Text, Field(min_length=its_range.min_length)]
    if annotation is bool:
        return Annotated[bool, Strict()]
    if origin in (tuple, frozenset):
        each = field if is_url(field) else ""
        return tuple[_accepted(each, inside[0], its_range), ...]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _accepted("", inside[1], its_range)]  # type: ignore[misc]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return model_of(annotation)
    return annotation


def _number(field: str, annotation: Any) -> Any:
    """What a number is written as, by the unit that its field ends in."""
    parts = field.split("_")
    if annotation is int and ("ms" in parts or "bytes" in parts):
        return Duration if "ms" in parts else Size
    return Annotated[annotation, Strict()]


def _within(its_range: msgspec.Meta) -> Any:
    """The range for the validation model; below nought nothing is taken."""
    if its_range.gt is not None:
        return Field(gt=its_range.gt)
    return Field(ge=its_range.ge or 0, le=its_range.le)


def _built(annotation: Any, value: Any) -> Any:
    """Models back into structs, inside lists and options."""
    if isinstance(value, BaseModel):
        struct = table_under(annotation)
        assert struct is not None
        return struct_of(struct, value)
    if isinstance(value, tuple):
        inner = get_args(annotation)[0] if get_args(annotation) else Any
        return tuple(_built(inner, item) for item in value)
    return value
