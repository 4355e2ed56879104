"""Validation models made from the settings structs, so that a setting is declared once.

A package declares a frozen struct; its fields are the keys of a table. Two endings are written
with a unit instead: ``window_ms`` is the key ``window`` and takes a duration ("1h30m"),
``delay_ms_max`` is ``delay_max``, and a field with ``_bytes`` takes a size ("64MiB"). A field that
may be ``None`` takes ``false`` for it: TOML has no null. Any text may be given as ``KEY_file``.

Invariant: a key that no field has is an error, so a misspelt one is never silently ignored.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, create_model

from streams.configuration.quantities import duration_ms, size_bytes

Duration = Annotated[int, BeforeValidator(duration_ms)]
Size = Annotated[int, BeforeValidator(size_bytes)]
Text = Annotated[str, Strict()]


class Key(msgspec.Struct, frozen=True):
    """One key of a table."""

    name: str
    field: str
    annotation: Any
    """Of the struct's field."""
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
    found = {}
    for field in msgspec.structs.fields(struct):
        name = key_of(field.name)
        found[name] = Key(name, field.name, hints[field.name], field.required)
    return found


@cache
def model_of(struct: type[msgspec.Struct], left_out: frozenset[str] = frozenset()) -> type[Table]:
    """The model that validates a struct's table; fields in ``left_out`` come from elsewhere."""
    fields: dict[str, Any] = {}
    for name, key in keys(struct).items():
        if key.field in left_out:
            continue
        annotation = _accepted(key.field, key.annotation)
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


def _accepted(field: str, annotation: Any) -> Any:
    """The type that a key takes, from the type that the field has."""
    options = _options(annotation)
    if options:
        inner = _accepted(field, next(one for one in options if one is not type(None)))
        return Annotated[inner | None, BeforeValidator(lambda v: None if v is False else v)]
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation is int:
        parts = field.split("_")
        if "ms" in parts:
            return Duration
        return Size if "bytes" in parts else Annotated[int, Strict(), Field(ge=0)]
    if annotation is float:
        return Annotated[float, Strict(), Field(ge=0)]
    if annotation is str:
        return Text
    if annotation is bool:
        return Annotated[bool, Strict()]
    if origin in (tuple, frozenset):
        return tuple[_accepted("", inside[0]), ...]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _accepted("", inside[1])]  # type: ignore[misc]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return model_of(annotation)
    return annotation


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
