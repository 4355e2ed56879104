"""Prints what ``probe`` answers where a cache could be wrong: probe_checks.py CHECK.

``test_compile.py`` runs it with the module compiled and with it as it is, and compares what they
print. All is asked three times, because a cache answers from the second or third on; and what is
to be told apart is asked at the same place of the module, one right after the other. Each check is
a process, since a place of the module stops keeping items after some times.
"""

import abc
import gc
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import msgspec

probe: Any = importlib.import_module("streams.core.probe")
TIMES = 3


class First(msgspec.Struct):
    field: Any = 1
    other: Any = 2


class Second(msgspec.Struct):
    other: Any = 3
    field: Any = 4


class Child(Second):
    more: Any = 5


class Slots:
    __slots__ = ("field", "other")


class Plain:
    """With a ``__dict__``."""


def show(label: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Print what the function returns or raises, each time."""
    answers = []
    for _ in range(TIMES):
        try:
            answers.append(repr(function(*arguments)))
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    print(label, *answers, sep=" | ")


def read_slots() -> None:
    """The same name at different offsets, with no value, and of a class it does not belong to."""
    for thing in (First(), Second(), Child(), First(field=None), msgspec.Raw(b"no field")):
        show(type(thing).__name__, probe.read_field, thing)
    slots: Any = Slots()
    show("unset", probe.read_field, slots)
    slots.field = "set"
    show("set", probe.read_field, slots)
    del slots.field
    show("unset again", probe.read_field, slots)
    alien = type("Alien", (), {"__slots__": ("a", "b"), "field": vars(Second)["field"]})
    show("slot of another class, unset", probe.read_field, alien())
    thing = alien()
    thing.a = thing.b = "own"
    show("slot of another class", probe.read_field, thing)


def read_what_is_no_slot() -> None:
    """Properties, a ``__dict__``, hooks, and slots of C that are read in another way."""
    plain = Plain()
    show("absent", probe.read_field, plain)
    plain.__dict__["field"] = "of the object"
    show("of the object", probe.read_field, plain)
    computed = type("Computed", (), {"field": property(lambda self: "computed")})
    show("property", probe.read_field, computed())
    hook = type("Hook", (Slots,), {"__getattr__": lambda self, name: f"hook {name}"})
    show("hook", probe.read_field, hook())
    for thing, name in (
        (slice("start", 2), "start"),
        (1j, "imag"),
        (lambda: None, "__closure__"),
        (property(), "fget"),
        (types, "SimpleNamespace"),
        (int, "__basicsize__"),
    ):
        show(f"{name}", probe.read_named, thing, name)


def read_changed_classes() -> None:
    """What is assigned to a class, or to the class of an object, holds from then on."""
    child, kept = Child(), vars(Second)["field"]
    reader: Any = type("Reader", (Slots,), {"__slots__": ()})
    show("before", probe.read_field, child)
    Child.field = property(lambda self: "of the child")
    show("assigned to the class", probe.read_field, child)
    del Child.field
    show("taken away again", probe.read_field, child)
    Second.field = property(lambda self: "of the parent")
    show("assigned to its parent", probe.read_field, child)
    Second.field = kept
    show("put back", probe.read_field, child)
    slots = reader()
    slots.field = "slot"
    show("slot", probe.read_field, slots)
    reader.__getattribute__ = lambda self, name: f"reader of {name}"
    show("reader", probe.read_field, slots)
    twin = type("Twin", (Slots,), {"__slots__": (), "field": "of the twin"})
    slots = type("Other", (Slots,), {"__slots__": ()})()
    slots.field = "slot"
    show("slot", probe.read_field, slots)
    slots.__class__ = twin
    show("of another class", probe.read_field, slots)


def read_what_is_made_anew() -> None:
    """Types come and go, at the addresses of those before them."""
    seen = []
    for turn in range(100):
        before = [f"pad{i}" for i in range(turn % 7)]
        made = msgspec.defstruct("Made", [*before, "field", "other"])
        thing = made(*range(turn % 7), turn, -turn)
        seen += [probe.read_field(thing) for _ in range(TIMES)]
        del made, thing
        gc.collect()
    print(seen)


def read_by_names_made_anew() -> None:
    """Names come and go, at the addresses of those before them."""
    thing, seen = First("field", "other"), []
    for name in ("field", "other", "other", "field") * 100:
        seen.append(probe.read_named(thing, "".join(list(name))))
        sys._clear_type_cache()  # CPython's own cache held the name too.
    print(seen)


def ask_instances() -> None:
    """Structs, tuples, unions, classes that decide themselves, and objects that pretend."""

    class Abstract(abc.ABC):  # noqa: B024 - only somebody to register with
        pass

    class Claims:
        __class__ = property(lambda self: First)

    Abstract.register(First)
    wanted = (First, Second, Child, int, Abstract, (int, First), (int, (Second, str)), int | First)
    for thing in (First(), Second(), Child(), Claims(), 5, True, First):
        for kind in (*wanted, type, type(First), (), "no class", (int, "no class")):
            show(f"{type(thing).__name__} {kind}", probe.is_instance, thing, kind)
    meta: Any = type("Meta", (type,), {})
    of_meta = meta("OfMeta", (), {})
    show("metaclass", probe.is_instance, First(), of_meta)
    meta.__instancecheck__ = lambda cls, thing: True
    show("metaclass that decides", probe.is_instance, First(), of_meta)
    show("metaclass that decides", probe.is_instance, First(), (int, of_meta))
    late: Any = type("Late", (), {})
    show("as it is", probe.is_instance, late(), Second)
    late.__getattribute__ = lambda self, name: Second
    show("pretends later", probe.is_instance, late(), Second)


def read_settings() -> None:
    """A name of the module that is assigned from outside."""
    show("at first", probe.read_setting)
    for value in ("second", "third", None):
        probe.setting = value
        show("assigned", probe.read_setting)
    vars(probe).update(setting="updated")
    show("through its dictionary", probe.read_setting)


def read_items() -> None:
    """Two names of one dictionary, one name of several, and what has been deleted."""
    default = type("Default", (dict,), {"__missing__": lambda self, name: f"no {name}"})
    mapping = {"name": 1, "other": 2}
    for name in ("name", "other"):
        show(name, probe.read_item, mapping, name)
    for each in ({"name": 3}, default(name=4), default(), {}):
        show("another", probe.read_item, each, "name")
    del mapping["name"]
    show("deleted", probe.read_item, mapping, "name")


def read_items_of_objects() -> None:
    """A ``__dict__``, which is changed through its object."""
    plain: Any = Plain()
    for value in range(4):
        plain.name = value
        show("item", probe.read_item, vars(plain), "name")


def read_items_made_anew() -> None:
    """Dictionaries and names come and go."""
    print([probe.read_item({"pad": 0, "name": turn}, "name") for turn in range(100)])


def read_items_by_names_made_anew() -> None:
    """The same, with names of which no other text in the program is the same object."""
    mapping = {name[::-1]: name for name in ("eno_eman", "owt_eman")}
    names = ("eno_eman", "owt_eman", "owt_eman", "eno_eman")
    print([probe.read_item(mapping, sys.intern(name[::-1])) for name in names])


def read_items_often_changed() -> None:
    """Beyond the number of times that a place keeps what it found."""
    mapping = dict.fromkeys(("name", "other"), 0)
    for turn in range(20):
        mapping["name"] = turn
        show("item", probe.read_item, mapping, "name")
        show("item", probe.read_item, mapping, "other")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
