"""Every benchmark, once. ``python -m benchmarks --list`` prints this."""

from __future__ import annotations

from benchmarks import decide, thin
from benchmarks.report import Benchmark

BENCHMARKS: tuple[Benchmark, ...] = (decide.BENCHMARK, thin.BENCHMARK)
