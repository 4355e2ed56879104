"""Many seeds, on every core, until one fails or all are done."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence

from streams.simulation.run import Verdict, simulate

CHUNK = 4
"""Seeds that a process takes at a time."""


def search(seeds: Sequence[int], jobs: int) -> Iterator[Verdict]:
    """Verdicts as they come; in the order of the seeds."""
    if jobs <= 1:
        yield from map(simulate, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap(simulate, seeds, CHUNK)
