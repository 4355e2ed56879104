"""The pages about faults: the table is the results', the runbook names what there is."""

from __future__ import annotations

import re

from tests.faults import results
from tests.faults.results import Result, latest, page_with, table

RUNBOOK = results.ROOT / "docs" / "runbook.md"
METRIC = re.compile(r"flowstate_[a-z_]+")


def result(row: str, **changes: object) -> Result:
    values: dict[str, object] = {
        "row": row, "fault": "a fault", "seed": 1, "code": "c", "holds": True, "events": 10,
        "lost": 0, "repeated": 2, "allowed": 3, "again_s": (1.0, 4.25),
    }  # fmt: skip
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def test_rows_stand_in_the_order_of_the_table_and_the_latest_run_counts() -> None:
    runs = [result("10a"), result("2", holds=False), result("2"), result("2", seed=7)]
    assert [(row, len(ones)) for row, ones in latest(runs).items()] == [("2", 2), ("10a", 1)]
    lines = table(runs).splitlines()
    assert lines[2] == "| 2 | a fault | 1, 7 | 20 | 0 | 4 / 6 | 4.2 | yes |  |"


def test_a_row_that_does_not_hold_with_one_seed_does_not_hold() -> None:
    assert "**no**" in table([result("2"), result("2", seed=7, holds=False)])


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = f"before\n{results.BEGIN}\nyesterday\n{results.END}\nafter\n"
    page = page_with(text, [result("2")])
    assert page.startswith("before\n") and page.endswith("\nafter\n")  # noqa: PT018
    assert "yesterday" not in page
    assert page_with(page, [result("2")]) == page


def test_the_page_has_a_place_for_the_table() -> None:
    text = results.PAGE.read_text()
    assert text.count(results.BEGIN) == text.count(results.END) == 1


def test_the_runbook_names_metrics_that_there_are() -> None:
    sources = "".join(path.read_text() for path in (results.ROOT / "streams").rglob("*.py"))
    named = {name.removesuffix("_total") for name in METRIC.findall(RUNBOOK.read_text())}
    assert named
    assert [name for name in sorted(named) if f'"{name}"' not in sources] == []
