"""Writes ``docs/reasons.md`` from the table of reasons: ``python -m streams.reasons_doc``.

A test fails when the page and the table differ, so the page can be believed.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from streams.core.reasons import REASONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reasons.md"
HEAD = """\
# Why: every reason a verdict can have

Made from `streams/core/reasons.py` by `python -m streams.reasons_doc`; do not edit it here.

Each entry of a decision carries one of these codes, the rule that gave it, and the inputs that
mattered; names in braces are such inputs. The rules are in the order in which they are asked.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for rule, reasons in groupby(REASONS.values(), key=lambda reason: reason.rule):
        parts.append(f"\n## {rule}\n\n| code | meaning |\n|---|---|\n")
        parts += [f"| `{reason.code}` | {reason.sentence} |\n" for reason in reasons]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
