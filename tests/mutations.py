"""What can be broken in the decision core, and how it is broken in a process that has loaded it.

cosmic-ray says what can be broken (a comparison turned round, a number one off, an ``and`` made an
``or``, a loop that does not run). A mutant takes effect by exchanging the code of the module's
functions: nothing on the disk is touched.

Left out, because no test could or should notice: declarations (``model``, ``policy``, ``terms``,
``reasons``: fields, defaults and sentences; that a class is ``frozen``), type annotations,
decorators (``lru_cache``) and the sizes of caches (``*_ENTRIES_MAX``), ``==`` made ``is`` or the
other way round, and what is no program.
"""

from __future__ import annotations

import ast
import difflib
import random
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cosmic_ray.plugins  # type: ignore[import-untyped]
import msgspec
from cosmic_ray.ast import (  # type: ignore[import-untyped]
    ast_nodes,
    get_ast_from_path,
)
from cosmic_ray.mutating import mutate_code  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "streams" / "core"
DECLARATIONS = frozenset({"__init__", "model", "policy", "terms", "reasons"})
OPERATORS_LEFT_OUT = (
    "core/RemoveDecorator",
    "core/NoOp",
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
)


class Mutant(msgspec.Struct, frozen=True):
    """One place to break, and how."""

    module: str
    operator: str
    occurrence: int
    line: int
    function: str | None
    """Name of the function, or ``Class.method``, that it is in; ``None``: in none."""


Span = tuple[tuple[int, int], tuple[int, int]]
"""(line, column) of a begin and an end."""


def sampled(modules: Iterable[str], seed: int) -> list[Mutant]:
    """All mutants in the order in which they are tried: any beginning of it is a fair sample."""
    drawn: list[tuple[float, Mutant]] = []
    for module in sorted(modules):
        mutants = mutants_of(CORE / f"{module}.py")
        random.Random(f"{seed}/{module}").shuffle(mutants)
        # Each module is spread evenly over the whole order.
        drawn += [((at + 0.5) / len(mutants), mutant) for at, mutant in enumerate(mutants)]
    return [mutant for _, mutant in sorted(drawn, key=lambda pair: (pair[0], pair[1].module))]


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module but those that are left out."""
    parsed = ast.parse(path.read_text())
    skipped = list(_skipped(parsed))
    functions = _functions(parsed)
    tree = get_ast_from_path(path)
    found = []
    for name in sorted(cosmic_ray.plugins.operator_names()):
        if name in OPERATORS_LEFT_OUT or "/Variable" in name:
            continue
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, place in enumerate(places):
            at = place[0]
            if not any(begin <= at < end for begin, end in skipped):
                inside = (name for name, (begin, end) in functions.items() if begin <= at < end)
                found.append(Mutant(path.stem, name, occurrence, at[0], next(inside, None)))
    return found


def _span(node: ast.AST) -> Span:
    one: Any = node
    return (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)


def _skipped(tree: ast.Module) -> Iterable[Span]:
    """Where types, decorators, what a class is, and the sizes of caches are."""
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield _span(part)
        yield from map(_span, getattr(node, "decorator_list", ()))
        if isinstance(node, ast.ClassDef):
            yield from (_span(keyword.value) for keyword in node.keywords)
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            # A type with a name: ``Order = tuple[int, int]``.
            is_type = names and names[0][0].isupper() and not names[0].isupper()
            is_type = is_type and isinstance(node.value, ast.Subscript | ast.BinOp)
            if is_type or (names and names[0].endswith("_ENTRIES_MAX")):
                yield _span(node.value)


def _functions(tree: ast.Module) -> dict[str, Span]:
    """The outermost functions, and the methods of the classes, by their qualified names."""
    found = {}
    for node in tree.body:
        inside = [(node.name, one) for one in node.body] if isinstance(node, ast.ClassDef) else []
        for prefix, one in [("", node), *inside]:
            if isinstance(one, ast.FunctionDef):
                found[f"{prefix}.{one.name}".lstrip(".")] = _span(one)
    return found


def mutated_source(mutant: Mutant) -> str:
    """The module's text with the mutant in it."""
    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    text = (CORE / f"{mutant.module}.py").read_text()
    source = mutate_code(text, operator, mutant.occurrence)
    assert source is not None, "the place was found before"
    return str(source)


def difference(mutant: Mutant) -> str:
    """The changed lines, as people read them."""
    before = (CORE / f"{mutant.module}.py").read_text().splitlines()
    lines = difflib.unified_diff(before, mutated_source(mutant).splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@")


def compiles(mutant: Mutant) -> bool:
    """False for what is no program: ``**known`` made ``^known``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            compile(mutated_source(mutant), mutant.module, "exec")
        except SyntaxError:
            return False
    return True


def break_it(mutant: Mutant) -> None:
    """Puts the mutant's code in place of the module's, in this process.

    Functions keep their identity and get the other code, so that whoever imported one has it.
    """
    name = f"streams.core.{mutant.module}"
    module = sys.modules[name]
    broken: dict[str, Any] = {"__name__": name, "__file__": module.__file__}
    exec(compile(mutated_source(mutant), str(module.__file__), "exec"), broken)
    for key, old in list(vars(module).items()):
        new = broken.get(key)
        if isinstance(old, ModuleType) or key.startswith("__"):
            continue
        if isinstance(old, type):
            if old.__module__ == name:
                for member, value in list(vars(old).items()):
                    _swap(value, vars(new).get(member))
        elif callable(old):
            if getattr(old, "__module__", None) == name:
                _swap(old, new)
        elif old != new:
            for other in [m for n, m in sys.modules.items() if n.startswith("streams.")]:
                if vars(other).get(key) is old:
                    setattr(other, key, new)


def forget_cached() -> None:
    """Empties the caches of the core's functions."""
    for name, module in list(sys.modules.items()):
        if name.startswith("streams.core."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _swap(old: Any, new: Any) -> None:
    old, new = getattr(old, "fget", old), getattr(new, "fget", new)
    if hasattr(old, "cache_clear"):
        old.cache_clear()
    old, new = getattr(old, "__wrapped__", old), getattr(new, "__wrapped__", new)
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        old.__code__ = new.__code__
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
