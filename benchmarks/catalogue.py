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
    ledger_worker,
    process,
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
    ledger_worker.BENCHMARK,
    ledger.BENCHMARK,
    http_api.BENCHMARK,
    growth.BENCHMARK,
    process.BENCHMARK,
)
