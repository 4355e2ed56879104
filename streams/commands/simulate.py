"""``flowstate simulate``: whole histories in one process, by their seeds.

A seed is a history: the same one gives the same steps, the same trouble and the same end, byte for
byte. So a history that fails is told from its seed alone, and can be lived again while it is
looked into.

Hashes of texts must be the same in every run for that, so the command starts itself anew with
``PYTHONHASHSEED=0`` when it was started without.
"""

from __future__ import annotations

import os
import sys
import time

import click

from streams.commands.failures import CommandError

HASH_SEED = "PYTHONHASHSEED"


def simulate(seed: int | None, start: int, seeds: int, jobs: int | None) -> None:
    """One seed with its story, or many with what came of them."""
    if os.environ.get(HASH_SEED) != "0":
        os.execve(  # noqa: S606 - this very command
            sys.executable,
            [sys.executable, "-m", "streams.cli", *sys.argv[1:]],
            {**os.environ, HASH_SEED: "0"},
        )
    if seed is not None:
        _one(seed)
    else:
        _many(range(start, start + seeds), jobs or os.cpu_count() or 1)


def _one(seed: int) -> None:
    from streams.simulation.run import simulate as live  # noqa: PLC0415 - seconds of imports

    verdict = live(seed, tell=True)
    for line in verdict.story:
        click.echo(line)
    click.echo(
        f"seed {seed}: {verdict.events} events, {verdict.received} requests to providers,"
        f" {verdict.deaths} kills, {verdict.batches} batches; troubles:"
        f" {', '.join(verdict.troubles) or 'none'}; digest {verdict.digest}"
    )
    _fail_with(seed, verdict.faults)


def _many(seeds: range, jobs: int) -> None:
    from streams.simulation.search import search  # noqa: PLC0415

    began = time.monotonic()
    events = received = repeated = doubtful = deaths = 0
    for verdict in search(seeds, jobs):
        events += verdict.events
        received += verdict.received
        repeated += verdict.repeated
        doubtful += verdict.doubtful
        deaths += verdict.deaths
        if verdict.faults:
            for line in verdict.story:
                click.echo(line)
            _fail_with(verdict.seed, verdict.faults)
    click.echo(
        f"{len(seeds):,} histories ({seeds.start} to {seeds.stop - 1}): {events:,} events,"
        f" {received:,} requests to providers, {deaths:,} kills; 0 lost, {repeated} repeated"
        f" ({doubtful:,} were allowed to be), in {time.monotonic() - began:.0f} s"
    )


def _fail_with(seed: int, faults: tuple[str, ...]) -> None:
    if faults:
        raise CommandError(
            f"seed {seed}: {len(faults)} things are wrong\n  " + "\n  ".join(faults),
            f"Live it again with: flowstate simulate --seed {seed}",
        )
