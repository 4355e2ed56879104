"""``benchmarks/api.py`` as one of ``make bench``: its figures under flat names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import api
from benchmarks.report import Benchmark, Figures, Options

BATCH = 100


def flat(found: Mapping[str, Any], prefix: str = "") -> Figures:
    """Nested figures, their names joined."""
    figures: Figures = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            figures |= flat(value, f"{prefix}{name}_")
        else:
            figures[prefix + name] = float(value)
    return figures


def run(options: Options) -> Figures:
    """One repeat."""
    found = api.run(BATCH, options.size(options.seconds, 5, 2))
    figures = {name: value for name, value in flat(found).items() if name != "cores"}
    for way in ("batches", "singles"):
        cores, rate = (
            figures[f"{way}_api_cores_used"],
            figures[f"{way}_sustained_events_per_second"],
        )
        figures[f"{way}_cpu_us_per_event"] = cores / rate * 1_000_000
    return figures


BENCHMARK = Benchmark(
    name="api", what="one api process: events over HTTP, in batches and one by one", run=run
)
