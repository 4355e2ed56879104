"""Breaks the decision core on purpose, one place at a time, and sees whether its tests notice.

Each mutant (``mutations.py`` says what that is) is tried in a process forked from one that has
collected the tests. First the tests run once on the core as it is, to learn which of them call
which function, and how long each takes: on a mutant run only those that call its function, the ones
that noticed others there first, then the quickest. A mutant is killed when a test fails, when the
module cannot be loaded, or when a test takes more than ``TIMES_MAX`` times its processor time.

Usage: ``python -m tests.mutants --minutes 30 --seed 1 --out build/mutants.jsonl``, or ``make
mutants``. Modules are sampled in proportion to their mutants, in an order that the seed draws; what
was tried when the time is over is what is reported. hypothesis draws from no random source, so a
seed tells the same story each time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import hypothesis
import msgspec
import pytest

from tests.mutations import (
    CORE,
    DECLARATIONS,
    ROOT,
    Mutant,
    break_it,
    compiles,
    difference,
    forget_cached,
    sampled,
)

TIMES_MAX = 10
SECONDS_MIN = 5.0
"""Of processor time: what a test may always take, however quick it is on the core as it is."""
MEMORY_BYTES_MAX = 3 << 30
BY_LOADING, BY_TIME, BY_CRASH = "does not load", "takes too long", "ends the process"
FAILS_ANYWAY = "the tests fail on the core as it is: nothing can be told"
FAILS_IN_ORDER = "the tests fail when the quickest run first: a mutant would be blamed for it"


class Known(msgspec.Struct):
    """What is known of a test: its processor time, and the functions of the core that it calls."""

    seconds: float
    calls: set[str]


class Trial:
    """A plugin of pytest: instead of running the tests once, runs them on each mutant."""

    def __init__(self, order: Sequence[Mutant], deadline: float, out: TextIO) -> None:
        self.order, self.deadline, self.out = order, deadline, out
        self.counts: Counter[tuple[str, bool]] = Counter()
        self.known: list[Known] = []
        self.noticed: Counter[tuple[str, int]] = Counter()
        """(function, number of a test) -> how many mutants of the one the other has killed."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        learnt = _in_a_fork(lambda write: _learn(session, write))
        if not learnt:
            raise pytest.UsageError(FAILS_ANYWAY)
        self.known = msgspec.json.decode(learnt, type=list[Known])
        if self._attempt(None, session) is not None:
            raise pytest.UsageError(FAILS_IN_ORDER)
        for mutant in self.order:
            if time.monotonic() > self.deadline:
                break
            if not compiles(mutant):
                continue  # No program, so nothing to notice.
            killed_by = self._attempt(mutant, session)
            self.counts[mutant.module, killed_by is not None] += 1
            document: dict[str, Any] = {**msgspec.to_builtins(mutant), "killed_by": killed_by}
            if killed_by is None:
                document["difference"] = difference(mutant)
            self.out.write(json.dumps(document) + "\n")
            self.out.flush()
        return True

    def _attempt(self, mutant: Mutant | None, session: pytest.Session) -> str | None:
        """What noticed the mutant, or ``None``; without a mutant, nothing may be noticed."""
        place = "" if mutant is None else f"{mutant.module}.{mutant.function}"
        chosen = [
            number
            for number, known in enumerate(self.known)
            if mutant is None or mutant.function is None or place in known.calls
        ]
        chosen.sort(key=lambda number: (-self.noticed[place, number], self.known[number].seconds))
        answer = _in_a_fork(lambda write: self._live(mutant, session, chosen, write)).decode()
        if answer.isdigit():
            self.noticed[place, int(answer)] += 1
            return session.items[int(answer)].nodeid.removeprefix("tests/core/")
        return answer or None

    def _live(
        self, mutant: Mutant | None, session: pytest.Session, chosen: Sequence[int], write: int
    ) -> None:
        """In the fork: answers with the number of the test that fails, or with nothing."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        try:
            if mutant is not None:
                break_it(mutant)
        except Exception:
            os.write(write, BY_LOADING.encode())
            return
        items = [session.items[number] for number in chosen]
        for number, item, following in zip(chosen, items, [*items[1:], None], strict=True):
            seconds = max(SECONDS_MIN, TIMES_MAX * self.known[number].seconds)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # Ends the process.
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                failed = session.testsfailed > 0
            except BaseException:
                failed = True
            if failed:
                os.write(write, str(number).encode())
                return


def _learn(session: pytest.Session, write: int) -> None:
    """In a fork: runs every test as it is; answers with what there is to know, or with nothing."""
    found = []
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        forget_cached()  # What an earlier test had asked is not called again.
        begun = time.process_time()
        with _calls() as calls:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        found.append(Known(time.process_time() - begun, calls))
        if session.testsfailed:
            return
    with os.fdopen(write, "wb", closefd=False) as out:
        out.write(msgspec.json.encode(found))


@contextmanager
def _calls() -> Iterator[set[str]]:
    """The functions of the core that are called inside, as ``module.function``."""
    places: set[Any] = set()

    def heard(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            places.add(frame.f_code)

    calls: set[str] = set()
    sys.setprofile(heard)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        for code in places:
            path = Path(code.co_filename)
            if path.parent == CORE:
                calls.add(f"{path.stem}.{code.co_qualname.partition('.<locals>')[0]}")


def _in_a_fork(act: Callable[[int], None]) -> bytes:
    """What ``act`` writes, in a silent process of its own. It ends by itself or by a signal."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _live(act, write)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return BY_TIME.encode() if os.WTERMSIG(status) == signal.SIGPROF else BY_CRASH.encode()
    return answer


def _live(act: Callable[[int], None], write: int) -> NoReturn:
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        act(write)
    finally:
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--resume", action="store_true", help="Go on where the file ends.")
    parser.add_argument("--module", action="append", help="Only this one; more than once.")
    parser.add_argument("--again", type=Path, help="Only what survived in this file.")
    asked = parser.parse_args()
    modules = asked.module or [p.stem for p in CORE.glob("*.py") if p.stem not in DECLARATIONS]
    order = sampled(modules, asked.seed)
    if asked.again is not None:
        left = {name for name, killed_by in _tried(asked.again).items() if killed_by is None}
        order = [mutant for mutant in order if _name(mutant) in left]
    done = _tried(asked.out) if asked.resume and asked.out.exists() else {}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
    options = [
        "-qq",
        "-s",
        "-W",
        "ignore",
        "--no-summary",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "0",
        "-p",
        "no:randomly",
    ]
    with asked.out.open("a" if asked.resume else "w") as out:
        left_to_try = [mutant for mutant in order if _name(mutant) not in done]
        trial = Trial(left_to_try, time.monotonic() + 60 * asked.minutes, out)
        for (module, _, _), killed_by in done.items():
            trial.counts[module, killed_by is not None] += 1
        pytest.main([*options, str(ROOT / "tests" / "core")], plugins=[trial])
    report(order, trial.counts)


def _name(mutant: Mutant) -> tuple[str, str, int]:
    return mutant.module, mutant.operator, mutant.occurrence


def _tried(path: Path) -> dict[tuple[str, str, int], str | None]:
    """What a file of results says: which mutant was killed by what."""
    lines = map(json.loads, path.read_text().splitlines())
    return {(d["module"], d["operator"], d["occurrence"]): d["killed_by"] for d in lines}


def report(order: Sequence[Mutant], counts: Counter[tuple[str, bool]]) -> None:
    """Prints the table of modules, and what the share among all mutants may be."""
    total = Counter(mutant.module for mutant in order)
    print("| module | mutants | tried | killed |\n|---|---|---|---|")
    for module in sorted(total):
        killed, left = counts[module, True], counts[module, False]
        print(f"| {module} | {total[module]} | {killed + left} | {killed} |")
    killed, tried = sum(n for (_, result), n in counts.items() if result), counts.total()
    low, high = wilson(killed, tried)
    print(f"| all | {len(order)} | {tried} | {killed} ({killed / max(1, tried):.1%}) |")
    print(f"\nWith a probability of 95 %, of all: {low:.1%} to {high:.1%} (Wilson).")


def wilson(killed: int, tried: int) -> tuple[float, float]:
    """The share among all, with 95 % confidence, of which a sample has these."""
    if not tried:
        return 0.0, 1.0
    z, share = 1.96, killed / tried
    middle = share + z * z / (2 * tried)
    reach = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried))
    whole = 1 + z * z / tried
    return (middle - reach) / whole, (middle + reach) / whole


if __name__ == "__main__":
    main()
