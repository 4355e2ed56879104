"""What the demo found: the books, a fingerprint to compare runs by, and whether it all adds up.

Pure but for printing. The fingerprint is of the totals that must not depend on how fast anything
was, or on what was killed; two runs with one seed and one configuration give the same. (A killed
sink leaves messages in doubt; the demo has every category send those again, so that they end as
they would have.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import msgspec
from rich.console import Console

from streams import topics
from streams.ledger.report import Report, render


class Verdict(msgspec.Struct, frozen=True):
    """What the demo found: the books, their fingerprint, and what is wrong if anything is."""

    report: Report
    fingerprint: str
    wrong: tuple[str, ...]


def fingerprint_of(report: Report) -> str:
    """16 hex digits over everything that two runs with the same seed must agree on."""
    text = json.dumps(report.totals(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def what_is_wrong(
    report: Report, events: int, rubbish: int, killed: str | None, crashes: Sequence[str]
) -> tuple[str, ...]:
    """Sentences for everything that does not add up; none for a good run.

    ``crashes``: names of processes that ended by themselves, once for each time.
    """
    sent = events + len(topics.EVENTS)
    letters = sum(report.dead_letters.values())
    checks = (
        (report.adds_up, "the audit found problems"),
        (report.accepted == sent, f"{report.accepted:,} events were accepted, {sent:,} were sent"),
        (report.still_open == 0, f"{report.still_open:,} events are still open"),
        (letters == rubbish, f"{letters} dead letters, {rubbish} unreadable records were sent"),
        (
            killed is not None or report.repeats == 0,
            f"{report.repeats:,} messages were sent twice, and nothing was killed",
        ),
        (not crashes, f"ended by themselves: {', '.join(crashes)} (see the logs folder)"),
    )
    return tuple(sentence for holds, sentence in checks if not holds)


def show(verdict: Verdict, console: Console, elapsed_s: float) -> None:
    """The books, the fingerprint, the verdict."""
    render(verdict.report, console)
    same = "the same for every run with this seed and configuration"
    console.print(f"totals fingerprint {verdict.fingerprint} ({same})")
    for sentence in verdict.wrong:
        console.print(f"WRONG: {sentence}", style="bold red")
    outcome = "failed" if verdict.wrong else "passed"
    console.print(f"The demo {outcome} in {elapsed_s:.0f} s.", style="bold")
