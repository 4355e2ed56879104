"""Every access that deploy/inline_caches.h replaces, each at one place of a compiled module.

``test_compile.py`` puts it beside the rules and compiles it; the checks call it from outside.
"""

from typing import Any

setting: Any = "first"
"""A name of the module that somebody assigns later."""


def read_field(thing: Any) -> Any:
    return thing.field


def read_named(thing: Any, name: str) -> Any:
    return getattr(thing, name)


def is_instance(thing: Any, wanted: Any) -> bool:
    return isinstance(thing, wanted)


def read_setting() -> Any:
    return setting


def read_item(mapping: dict[str, Any], name: str) -> Any:
    return mapping[name]
