"""Every benchmark, once. ``python -m benchmarks --list`` prints this."""

from __future__ import annotations

from benchmarks import (
    critical,
    decide,
    deliver,
    end_to_end,
    growth,
    http_api,
    ledger,
    restore,
    thin,
    timers,
)
from benchmarks.report import Benchmark

BENCHMARKS: tuple[Benchmark, ...] = (
    decide.BENCHMARK,
    thin.BENCHMARK,
    end_to_end.BENCHMARK,
    critical.BENCHMARK,
    timers.BENCHMARK,
    restore.BENCHMARK,
    deliver.BENCHMARK,
    ledger.BENCHMARK,
    http_api.BENCHMARK,
    ledger.BENCHMARK,
    growth.BENCHMARK,
)
