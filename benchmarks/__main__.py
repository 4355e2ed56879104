"""Measures Flowstate on this machine: ``python -m benchmarks [NAME ...]``, or ``make bench``.

Each benchmark starts what it needs (a real Kafka, worker processes), measures, stops it, prints
a table and writes JSON to ``results/``. Broker, workers and load share the machine's cores, so a
figure says as much of the machine as of the code; ratios were measured in one run.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import traceback
from pathlib import Path

from benchmarks import report
from benchmarks.catalogue import BENCHMARKS
from benchmarks.report import Benchmark, Figures, Options


def positive(text: str) -> int:
    """A count of which there is at least one. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help="all of them unless named")
    made.add_argument("--list", action="store_true", help="say what there is")
    made.add_argument("--quick", action="store_true", help="small sizes: a look, not a result")
    made.add_argument("--repeats", type=positive, default=None, help="3, or 1 with --quick")
    made.add_argument("--events", type=positive, help="events of one repeat")
    made.add_argument(
        "--recipients", type=positive, help="recipients with preferences and addresses"
    )
    made.add_argument("--partitions", type=positive, help="partitions of every topic")
    made.add_argument("--workers", type=positive, help="decide workers, where there can be more")
    made.add_argument("--seconds", type=float, help="how long load is offered, where it is")
    made.add_argument("--rate", type=float, help="events offered a second, where they are")
    made.add_argument("--no-twins", action="store_true", help="the product alone")
    made.add_argument(
        "--profile", nargs="?", const="svg", choices=("svg", "raw"), default="",
        help="record the worker with py-spy to results/ (slows it a little)",
    )  # fmt: skip
    made.add_argument("--results", type=Path, default=Path("results"), help="folder for JSON")
    return made


def measure(benchmark: Benchmark, options: Options, repeats: int) -> list[Figures]:
    """Runs a benchmark ``repeats`` times, shows and writes what came of it."""
    before = report.machine()
    found: list[Figures] = []
    for number in range(repeats):
        print(f"{benchmark.name}: {number + 1} of {repeats}", file=sys.stderr, flush=True)
        found.append(benchmark.run(options))
        gc.collect()
    report.show(benchmark, found)
    print(report.write(benchmark, options, found, before), flush=True)
    return found


def _stop(number: int, _frame: object) -> None:
    """Ends as Ctrl-C does, so that what was started is stopped and its folder removed."""
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when a benchmark could not be run to its end."""
    given = parser().parse_args(arguments)
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    unknown = [name for name in given.names if name not in known]
    if given.list or unknown:
        for name in unknown:
            print(f"there is no benchmark {name!r}", file=sys.stderr)
        for benchmark in BENCHMARKS:
            print(f"{benchmark.name:12} {benchmark.what}")
        return 2 if unknown else 0
    options = Options(
        quick=given.quick, events=given.events, recipients=given.recipients,
        partitions=given.partitions, workers=given.workers, seconds=given.seconds, rate=given.rate,
        profile=given.profile, results=given.results, twins=not given.no_twins,
    )  # fmt: skip
    repeats = given.repeats or (1 if given.quick else 3)
    failed = 0
    for name in given.names or list(known):
        try:
            measure(known[name], options, repeats)
        except Exception:
            # The others are still worth measuring; the status says that one was not.
            traceback.print_exc()
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
