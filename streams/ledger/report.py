"""What an audit found, and how it is shown to people.

``Report`` is plain data. It adds up when nothing is left over and nothing contradicts anything;
``problems`` says in words what does not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from streams.core.reasons import REASONS
from streams.ledger.model import TERMINAL


class Report(msgspec.Struct):
    """Counts of an audit. Filled by ``audit.py`` and ``reconcile.py``."""

    accepted: int = 0
    """Event records that a producer had acknowledged; a forwarded copy is not another one."""
    forwarded: int = 0
    """Of these, records that came in on a wrong partition and were passed on."""
    states: Counter[str] = msgspec.field(default_factory=Counter)
    """Terminal state -> accepted events in it."""
    delivered: Counter[str] = msgspec.field(default_factory=Counter)
    """Channel -> events that a provider accepted on it; an event may count on several."""
    reasons: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    """(state, reason) -> events, for the ends that have one."""
    held: Counter[str] = msgspec.field(default_factory=Counter)
    """Reason -> times that something was held, whatever became of it."""
    open: Counter[str] = msgspec.field(default_factory=Counter)
    """What it waits for -> events."""
    digests: Counter[str] = msgspec.field(default_factory=Counter)
    """State -> closed digests; ``open`` counts those that a provider or a time is awaited for."""
    digests_gathering: int = 0
    digests_delivered: Counter[str] = msgspec.field(default_factory=Counter)
    absorbed: Counter[int] = msgspec.field(default_factory=Counter)
    """Events in a digest -> closed digests with so many."""
    answers: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    """(status, channel) -> provider answers, each try once."""
    answers_repeated: int = 0
    dead_letters: Counter[str] = msgspec.field(default_factory=Counter)
    """Reason -> records of ``dead-letters``, of events and of everything else."""
    unaudited: int = 0
    """Events whose decisions the log no longer has: not in ``accepted``."""
    received: int | None = None
    """Messages that the providers say they accepted; ``None``: nobody was asked."""
    received_ids: int = 0
    repeats: int = 0
    """Delivery ids that a provider accepted more than once."""
    repeats_flagged: int = 0
    """Delivery ids whose answers say that an earlier send may have arrived."""
    ledger: str = "not asked"
    problems: list[str] = msgspec.field(default_factory=list)
    problem_count: int = 0
    seconds: float = 0.0

    @property
    def terminal(self) -> int:
        """Events that ended."""
        return sum(self.states.values())

    @property
    def still_open(self) -> int:
        """Events that wait for something that they name."""
        return sum(self.open.values())

    @property
    def remainder(self) -> int:
        """Accepted minus ended minus open: events that nobody can account for. Must be 0."""
        return self.accepted - self.terminal - self.still_open

    @property
    def adds_up(self) -> bool:
        """Whether the audit found nothing wrong."""
        return self.remainder == 0 and self.problem_count == 0

    @property
    def exit_status(self) -> int:
        """0 when it adds up, else 1."""
        return 0 if self.adds_up else 1

    def problem(self, text: str, samples_max: int) -> None:
        """Notes that something does not add up; only the first texts of many are kept."""
        self.problem_count += 1
        if len(self.problems) < samples_max:
            self.problems.append(text)

    def totals(self) -> dict[str, Any]:
        """What two runs over the same input must agree on, in a fixed order."""
        return {
            "accepted": self.accepted,
            "states": dict(sorted(self.states.items())),
            "delivered": dict(sorted(self.delivered.items())),
            "reasons": {"/".join(key): n for key, n in sorted(self.reasons.items())},
            "held": dict(sorted(self.held.items())),
            "open": dict(sorted(self.open.items())),
            "digests": dict(sorted(self.digests.items())),
            "absorbed": {str(size): n for size, n in sorted(self.absorbed.items())},
            "dead_letters": dict(sorted(self.dead_letters.items())),
        }


def render(report: Report, console: Console) -> None:
    """Prints the books."""
    console.print(Group(_books(report), *_side_tables(report)))
    for text in _remarks(report):
        console.print(text)


def _books(report: Report) -> Table:
    table = Table(title="The books", title_justify="left", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_row(Text("accepted", "bold"), _number(report.accepted), _forwarded(report))
    for state in TERMINAL:
        count = report.states[state]
        if state == "delivered":
            note = ", ".join(f"{c} {n:,}" for c, n in report.delivered.most_common())
        elif state == "digested":
            note = f"in {sum(report.absorbed.values()):,} digests"
        else:
            note = ", ".join(
                f"{reason} {n:,}" for (s, reason), n in report.reasons.most_common() if s == state
            )
        table.add_row(f"  {state.replace('_', ' ')}", _number(count), Text(note, "dim"))
    waits = ", ".join(f"{what} {n:,}" for what, n in report.open.most_common())
    table.add_row("  still open", _number(report.still_open), Text(waits, "dim"))
    style = "bold green" if report.remainder == 0 else "bold red"
    table.add_row(Text("remainder", style), Text(_number(report.remainder), style), "")
    return table


def _side_tables(report: Report) -> list[Table]:
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    closed = sum(report.digests.values())
    if closed or report.digests_gathering:
        sizes = report.absorbed
        events = sum(size * n for size, n in sizes.items())
        largest = max(sizes, default=0)
        states = ", ".join(f"{s} {n:,}" for s, n in report.digests.most_common())
        table.add_row("digests closed", _number(closed), Text(states, "dim"))
        table.add_row("  events in them", _number(events), Text(f"largest {largest:,}", "dim"))
        channels = ", ".join(f"{c} {n:,}" for c, n in report.digests_delivered.most_common())
        table.add_row("  delivered", "", Text(channels, "dim"))
        table.add_row("digests gathering", _number(report.digests_gathering), "")
    for reason, count in report.held.most_common():
        about = REASONS[reason].rule if reason in REASONS else ""
        table.add_row(f"held: {reason}", _number(count), Text(about, "dim"))
    for reason, count in report.dead_letters.most_common():
        table.add_row(f"dead letter: {reason}", _number(count), "")
    statuses: Counter[str] = Counter()
    for (status, _channel), count in report.answers.items():
        statuses[status] += count
    for status, count in statuses.most_common():
        table.add_row(f"answers: {status}", _number(count), "")
    return [table]


def _remarks(report: Report) -> list[Text]:
    remarks = []
    if report.received is not None:
        remarks.append(
            Text(
                f"Providers received {report.received:,} messages, {report.received_ids:,} ids;"
                f" {report.repeats:,} ids more than once, {report.repeats_flagged:,} flagged as"
                " possible repeats."
            )
        )
    if report.answers_repeated:
        remarks.append(Text(f"{report.answers_repeated:,} answers were recorded twice."))
    if report.unaudited:
        remarks.append(
            Text(f"{report.unaudited:,} events are older than the log of decisions: not audited.")
        )
    remarks.append(Text(f"Ledger: {report.ledger}."))
    remarks += [Text(f"PROBLEM: {problem}", "red") for problem in report.problems]
    if report.problem_count > len(report.problems):
        remarks.append(Text(f"... {report.problem_count:,} problems in all", "red"))
    verdict = "It adds up." if report.adds_up else "It does NOT add up."
    style = "bold green" if report.adds_up else "bold red"
    remarks.append(Text(f"{verdict} ({report.seconds:.1f} s)", style))
    return remarks


def _forwarded(report: Report) -> Text:
    if not report.forwarded:
        return Text("")
    return Text(f"{report.forwarded:,} came in on a wrong partition", "dim")


def _number(count: int) -> str:
    return f"{count:,}"
