"""Breaks the decision core on purpose, one place at a time, and sees whether its tests notice.

cosmic-ray says what can be broken (a comparison turned round, a number one off, an ``and`` made an
``or``, a loop that does not run); here each such mutant is tried in a process forked from one that
has collected the tests, by exchanging the code of the module's functions: nothing on the disk is
touched. A mutant is killed when a test fails, when the module cannot be loaded, or when it takes
longer than ``SECONDS_MAX`` of processor time.

Usage: ``python -m tests.mutants --minutes 30 --seed 1 --out build/mutants.jsonl``, or ``make
mutants``.
Modules are sampled in proportion to their mutants, in an order that the seed draws; what was tried
when the time is over is what is reported. The order of the tests is fixed and hypothesis draws from
no random source, so a seed tells the same story each time.

Left out, because no test could or should notice: declarations (``model``, ``policy``, ``terms``,
``reasons``: fields, defaults and sentences), type annotations, ``lru_cache``, and ``==`` made
``is`` or the other way round.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn, TextIO

import cosmic_ray.plugins  # type: ignore[import-untyped]
import hypothesis
import msgspec
import pytest
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
SECONDS_MAX = 40
"""Of processor time for one mutant; the whole suite takes about ten."""
MEMORY_BYTES_MAX = 3 << 30
LAST = ("bounds", "against_reference")
FIRST = ("decide", "digest", "quiet_hours", "rate_limit", "retries", "withdrawal", "control")
"""Tests that kill most and take least; the reference model comes last."""
KILLED, SURVIVED = 1, 0


class Mutant(msgspec.Struct, frozen=True):
    """One place to break, and how."""

    module: str
    operator: str
    occurrence: int
    line: int


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module but those of its annotations."""
    text = path.read_text()
    skipped = _annotations(text)
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
            line, column = place[0]
            if not any(begin <= (line, column) < end for begin, end in skipped):
                found.append(Mutant(path.stem, name, occurrence, line))
    return found


def _annotations(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the types are: (line, column) of their begins and ends."""
    found: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for node in ast.walk(ast.parse(text)):
        inside = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names and names[0][0].isupper() and not names[0].isupper():
                inside.append(node.value)  # A type with a name: ``Order = tuple[int, int]``.
        for one in inside:
            if one is not None:
                end = (one.end_lineno or 0, one.end_col_offset or 0)
                found.append(((one.lineno, one.col_offset), end))
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


def _compiles(mutant: Mutant) -> bool:
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


def _swap(old: Any, new: Any) -> None:
    old, new = getattr(old, "fget", old), getattr(new, "fget", new)
    if hasattr(old, "cache_clear"):
        old.cache_clear()
    old, new = getattr(old, "__wrapped__", old), getattr(new, "__wrapped__", new)
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        old.__code__ = new.__code__
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


class Trial:
    """A plugin of pytest: instead of running the tests once, runs them on each mutant."""

    def __init__(self, order: Sequence[Mutant], deadline: float, out: TextIO) -> None:
        self.order, self.deadline, self.out = order, deadline, out
        self.counts: Counter[tuple[str, int]] = Counter()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self._attempt(None, session) == KILLED:
            raise pytest.UsageError("the tests fail on the core as it is: nothing can be told")
        for mutant in self.order:
            if time.monotonic() > self.deadline:
                break
            if not _compiles(mutant):
                continue  # ``**known`` made ``^known``: no program, so nothing to notice.
            result = self._attempt(mutant, session)
            self.counts[mutant.module, result] += 1
            document: dict[str, Any] = {**msgspec.to_builtins(mutant), "killed": bool(result)}
            if result == SURVIVED:
                document["difference"] = difference(mutant)
            self.out.write(json.dumps(document) + "\n")
            self.out.flush()
        return True

    def _attempt(self, mutant: Mutant | None, session: pytest.Session) -> int:
        child = os.fork()
        if child == 0:
            _live(mutant, session)
        _, status = os.waitpid(child, 0)
        return SURVIVED if os.waitstatus_to_exitcode(status) == SURVIVED else KILLED


def _live(mutant: Mutant | None, session: pytest.Session) -> NoReturn:
    """The child: never returns."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        if mutant is not None:
            break_it(mutant)
        module = "" if mutant is None else mutant.module
        ordered = sorted(session.items, key=lambda item: _place(item, module))
        for item, following in zip(ordered, [*ordered[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os._exit(KILLED)
        os._exit(SURVIVED)
    except BaseException:
        os._exit(KILLED)


def _place(item: pytest.Item, module: str) -> int:
    """The module's own tests first, then those that kill most, the reference model last."""
    name = item.path.stem.removeprefix("test_")
    order = (module, *FIRST)
    if name in order:
        return order.index(name)
    return len(order) + (LAST.index(name) + 1 if name in LAST else 0)


def sampled(modules: Iterable[str], seed: int) -> list[Mutant]:
    """All mutants in the order in which they are tried: any beginning of it is a fair sample."""
    drawn: list[tuple[float, Mutant]] = []
    for module in sorted(modules):
        mutants = mutants_of(CORE / f"{module}.py")
        random.Random(f"{seed}/{module}").shuffle(mutants)
        # Each module is spread evenly over the whole order.
        drawn += [((at + 0.5) / len(mutants), mutant) for at, mutant in enumerate(mutants)]
    return [mutant for _, mutant in sorted(drawn, key=lambda pair: (pair[0], pair[1].module))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--resume", action="store_true", help="Go on where the file ends.")
    parser.add_argument("--module", action="append", help="Only this one; more than once.")
    asked = parser.parse_args()
    modules = asked.module or [p.stem for p in CORE.glob("*.py") if p.stem not in DECLARATIONS]
    order = sampled(modules, asked.seed)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * asked.minutes
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
    options = ["-q", "-p", "no:cacheprovider", "--timeout", "0", "-p", "no:randomly"]
    known = asked.out.read_text().splitlines() if asked.resume and asked.out.exists() else []
    with asked.out.open("a" if asked.resume else "w") as out:
        trial = Trial(order, deadline, out)
        done = set()
        for line in known:
            tried = json.loads(line)
            trial.counts[tried["module"], int(tried["killed"])] += 1
            done.add((tried["module"], tried["operator"], tried["occurrence"]))
        trial.order = [m for m in order if (m.module, m.operator, m.occurrence) not in done]
        pytest.main([*options, str(ROOT / "tests" / "core")], plugins=[trial])
    report(order, trial.counts)


def report(order: Sequence[Mutant], counts: Counter[tuple[str, int]]) -> None:
    """Prints the table of modules."""
    total = Counter(mutant.module for mutant in order)
    print("| module | mutants | tried | killed |\n|---|---|---|---|")
    for module in sorted(total):
        killed, left = counts[module, KILLED], counts[module, SURVIVED]
        print(f"| {module} | {total[module]} | {killed + left} | {killed} |")
    killed = sum(n for (_, result), n in counts.items() if result == KILLED)
    tried = counts.total()
    print(f"| all | {len(order)} | {tried} | {killed} ({killed / max(1, tried):.1%}) |")


if __name__ == "__main__":
    main()
