"""What came of each row: kept as lines, so that a run resumes where it stopped; and the table.

With ``RESUME=1`` (``make faults`` sets it, but for ``FRESH=1``) a row that held with the same seed
on the same code is not run again. The code is known by the hash of every file of the product, so a
change runs everything again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".flowstate" / "faults" / "results.jsonl"


class Result(msgspec.Struct, frozen=True):
    """One run of one row."""

    row: str
    """Number in the table of faults, with a letter where a row has several tests."""
    fault: str
    seed: int
    code: str
    holds: bool
    events: int
    lost: int
    repeated: int
    allowed: int
    again_s: tuple[float, ...]
    """Seconds from each fault until all partitions decided again."""
    note: str = ""
    faults: tuple[str, ...] = ()
    """The first of what was wrong."""


@cache
def code_hash() -> str:
    """Names the code that is tested."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "streams").rglob("*.py")) + sorted(
        (ROOT / "schemas").glob("*.avsc")
    ):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def read() -> list[Result]:
    """Every line there is."""
    if not FILE.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in FILE.read_bytes().splitlines()]


def write(result: Result) -> None:
    """Appends a line."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")


def holds_already(row: str, seed: int) -> bool:
    """Whether the row held with this seed on this code."""
    if not os.environ.get("RESUME"):
        return False
    return any(
        one.row == row and one.seed == seed and one.code == code_hash() and one.holds
        for one in read()
    )


def latest(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Row -> its latest result for each seed."""
    found: dict[tuple[str, int], Result] = {(one.row, one.seed): one for one in results}
    rows: dict[str, list[Result]] = {}
    for (row, _), one in sorted(found.items(), key=lambda item: _order(item[0][0])):
        rows.setdefault(row, []).append(one)
    return rows


def _order(row: str) -> tuple[int, str]:
    number = row.rstrip("abcdefghijklmnop")
    return int(number), row[len(number) :]


def table(results: Iterable[Result]) -> str:
    """Markdown."""
    lines = [
        "| # | fault | seeds | events | lost | repeated / allowed | again after (s) | holds | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, ones in latest(results).items():
        again = [second for one in ones for second in one.again_s]
        worst = f"{max(again):.1f}" if again else "-"
        repeated = f"{sum(o.repeated for o in ones)} / {sum(o.allowed for o in ones)}"
        seeds = ", ".join(str(one.seed) for one in sorted(ones, key=lambda one: one.seed))
        holds = "yes" if all(one.holds for one in ones) else "**no**"
        lines.append(
            f"| {row} | {ones[-1].fault} | {seeds} | {sum(o.events for o in ones):,} |"
            f" {sum(o.lost for o in ones)} | {repeated} | {worst} | {holds} | {ones[-1].note} |"
        )
    return "\n".join(lines)


PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def page_with(text: str, results: Iterable[Result]) -> str:
    """The page with another table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{PAGE} has lost its marks"
    return f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), read()))
