"""Writes ``docs/reasons.md`` from the tables of reasons: ``python -m streams.reasons_doc``.

A test fails when the page and the tables differ, so the page can be believed.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from streams.core.reasons import REASONS
from streams.dead_letters import CAUSES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reasons.md"
HEAD = """\
# Why: every reason a verdict can have

Made from `streams/core/reasons.py` and `streams/dead_letters.py` by
`python -m streams.reasons_doc`; do not edit it here. The reasons of [dead letters](#dead-letters)
are at the end.

Each entry of a decision carries one of these codes, the rule that gave it, and the inputs that
mattered; names in braces are such inputs. The rules are in the order in which they are asked.
"""
DEAD_LETTERS = """
## Dead letters

What `/dead-letters` and `flowstate redrive --reason CODE` know a dead letter by. A *record* that
could not be read or decided goes back to its own topic and partition, with its bytes and its key as
they were. A *delivery* that could not be sent (the last four, and retries whose category is gone)
is decided again; what has expired meanwhile ends as `expired`. A delivery that could not be read
has no way back. Doing it twice changes nothing more. The page shows `unreadable` where the dead
letter itself cannot be read.

| code | meaning | whose it is to mend | what redrive does |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for rule, reasons in groupby(REASONS.values(), key=lambda reason: reason.rule):
        parts.append(f"\n## {rule}\n\n| code | meaning |\n|---|---|\n")
        parts += [f"| `{reason.code}` | {reason.sentence} |\n" for reason in reasons]
    parts.append(DEAD_LETTERS)
    parts += [
        f"| `{one.code}` | {one.meaning} | {one.whose} | {one.redrive} |\n"
        for one in CAUSES.values()
    ]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
