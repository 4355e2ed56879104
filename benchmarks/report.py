"""Figures of benchmarks: what one is, how repeats are summed up, how they are written and shown.

A benchmark gives one flat mapping of figures per repeat. Everything that is said about them (the
least, the median and the most; whether a goal was met) is computed here, so that each benchmark
only measures.

Invariant: a file of results says everything that is needed to judge it: the machine, its load, the
commit, the options, and every repeat's own figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

Figures = dict[str, float]
"""Name -> value. The unit is the end of the name, but for counts."""

ROOT = Path(__file__).parents[1]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line; ``None`` leaves a size to the benchmark."""

    quick: bool = False
    events: int | None = None
    recipients: int | None = None
    partitions: int | None = None
    seconds: float | None = None
    rate: float | None = None
    """Events offered a second."""
    workers: int | None = None
    """Workers of decide, where a benchmark can have more than one."""
    profile: str = ""
    """``svg`` or ``raw``: record the worker with py-spy in this format."""
    results: Path = Path("results")
    twins: bool = True
    """Whether the alternatives are measured too."""

    def size(self, given: float | None, full: float, quick: float) -> int:
        """A size: the given one, else the one of this mode."""
        return int(given if given is not None else quick if self.quick else full)


class Goal(msgspec.Struct, frozen=True):
    """What a figure should be, judged by its median."""

    figure: str
    limit: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether ``value`` is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number_text(self.limit)}"


Run = Callable[[Options], Figures]
"""One repeat."""


class Benchmark(msgspec.Struct, frozen=True):
    """One thing that can be measured."""

    name: str
    what: str
    run: Run
    goals: tuple[Goal, ...] = ()


def in_a_loop(measure: Callable[[Options], Coroutine[Any, Any, Figures]]) -> Run:
    """One repeat of an asynchronous benchmark, from plain code."""
    return lambda options: asyncio.run(measure(options))


def summed_up(repeats: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Figure -> its least, median and most over the repeats that have it."""
    names = dict.fromkeys(name for figures in repeats for name in figures)
    found = {}
    for name in names:
        values = [figures[name] for figures in repeats if name in figures]
        found[name] = {
            "min": min(values), "median": statistics.median(values), "max": max(values),
        }  # fmt: skip
    return found


def machine() -> dict[str, Any]:
    """Facts without which a figure means little."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    return {
        "cores": os.cpu_count(),
        "cpu": model or platform.processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "load_average": list(os.getloadavg()),
    }


def commit() -> str:
    """The commit that is measured, with a + when files differ from it; empty outside git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()


def write(
    benchmark: Benchmark, options: Options, repeats: Sequence[Figures], before: Mapping[str, Any]
) -> Path:
    """Writes ``results/NAME.json`` (the latest) and a dated copy; returns the first."""
    document = {
        "benchmark": benchmark.name,
        "what": benchmark.what,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "options": msgspec.structs.asdict(options),
        "machine": dict(before),
        "figures": summed_up(repeats),
        "repeats": list(repeats),
    }
    text = json.dumps(document, indent=2, default=str) + "\n"
    options.results.mkdir(parents=True, exist_ok=True)
    suffix = "-quick" if options.quick else ""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (options.results / f"{benchmark.name}{suffix}-{stamp}.json").write_text(text)
    latest = options.results / f"{benchmark.name}{suffix}.json"
    latest.write_text(text)
    return latest


def number_text(value: float) -> str:
    """A number as a person reads it."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def show(benchmark: Benchmark, repeats: Sequence[Figures]) -> None:
    """Prints a table of a benchmark's figures, goals beside those that have one."""
    goals = {goal.figure: goal for goal in benchmark.goals}
    table = Table(title=f"{benchmark.name}: {benchmark.what}", title_justify="left")
    table.add_column("figure")
    for column in ("min", "median", "max"):
        table.add_column(column, justify="right")
    table.add_column("goal")
    for name, values in summed_up(repeats).items():
        goal = goals.get(name)
        said = ""
        if goal is not None:
            said = f"{goal} {'met' if goal.met(values['median']) else 'NOT met'}"
        table.add_row(name, *(number_text(values[c]) for c in ("min", "median", "max")), said)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
