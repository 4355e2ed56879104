"""The pure parts of pages: charts, formats, filters, counts by time."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.pages import PartitionStatus, WorkerStatus
from streams.ledger.documents import Count
from streams.ledger.rows import DAY_MS, HOUR_MS
from streams.web.console import charts, formats, partitions, render
from streams.web.console.charts import Series, Step
from streams.web.console.fleet import FleetStatus, Worker
from streams.web.console.masking import HIDDEN, masked
from streams.web.console.overview import page_of
from streams.web.console.providers import document_of

DAY0 = 19_675 * DAY_MS
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
VALUES = st.lists(st.floats(0, 1e12), min_size=3, max_size=3)


@given(st.lists(st.builds(Series, NAMES, VALUES), max_size=10), NAMES)
def test_a_chart_is_well_formed_and_nothing_leaves_it(series: list[Series], title: str) -> None:
    times = [DAY0, DAY0 + HOUR_MS, DAY0 + 2 * HOUR_MS]
    drawn = ElementTree.fromstring(charts.bars(title, times, series))
    for bar in drawn.iter("rect"):
        top, tall = float(bar.attrib["y"]), float(bar.attrib["height"])
        assert top >= charts.TOP - 0.1
        assert top + tall <= charts.HEIGHT - charts.BOTTOM + 0.1


@given(st.lists(st.builds(Step, NAMES, st.integers(0, 10**13), st.floats(0, 1e12)), max_size=8))
def test_steps_are_well_formed(steps: list[Step]) -> None:
    drawn = charts.steps("<where>", steps)
    assert not steps or len(list(ElementTree.fromstring(drawn).iter("rect"))) == len(steps)


@given(st.floats(0, 1e15))
def test_a_ceiling_is_above_and_not_far(value: float) -> None:
    ceiling = charts.nice_ceiling(value)
    assert value <= ceiling <= max(1.0, value * 2.5) * 1.001


@given(st.dictionaries(st.tuples(st.sampled_from([1, 2, 3]), NAMES), st.integers(1, 9)))
def test_series_lose_nothing(counts: dict[tuple[int, str], int]) -> None:
    found = charts.by_time(dict(counts), [1, 2, 3], names_max=3)
    assert sum(series.total for series in found) == sum(counts.values())
    assert len(found) <= 4


@given(st.lists(NAMES, min_size=1))
def test_a_csv_cell_is_no_formula_and_comes_back(texts: list[str]) -> None:
    body = formats.as_csv([{"name": text} for text in texts]).decode()
    rows = list(csv.DictReader(io.StringIO(body)))
    for text, row in zip(texts, rows, strict=False):
        assert not row["name"].startswith(formats.FORMULA_STARTS)
        assert row["name"].removeprefix("'") == text.removeprefix("'")


@pytest.mark.parametrize(
    ("length_ms", "said"),
    [(0, "0 ms"), (1_500, "1.5 s"), (59_000, "59 s"), (90_000, "1 min 30 s"),
     (3_660_000, "1 h 1 min"), (90_000_000, "1 d 1 h"), (None, "-"), (-5, "-5 ms")],
)  # fmt: skip
def test_durations_for_people(length_ms: int | None, said: str) -> None:
    assert render.duration(length_ms) == said


def test_masking_goes_to_any_depth_and_keeps_names() -> None:
    value = {"a": [{"address": "x@y.z", "n": 1}], "data": {"text": "t"}, "key": "", "zone": "UTC"}
    assert masked(value) == {
        "a": [{"address": HIDDEN, "n": 1}], "data": {"text": HIDDEN}, "key": "", "zone": "UTC",
    }  # fmt: skip


def test_every_partition_of_every_role_is_on_the_page_whoever_answers() -> None:
    restoring = PartitionStatus(
        partition=0, is_standby=False, state="restoring", restored=50, restore_end=200,
        lag={"normal": 5, "bulk": 2},
    )  # fmt: skip
    warm = PartitionStatus(
        partition=0, is_standby=True, state="standby", restored=190, restore_end=200
    )
    fleet = FleetStatus(
        at_ms=DAY0,
        workers=[
            Worker(role="decide", url="http://a", announced=[0], status=_worker(restoring)),
            Worker(role="decide", url="http://b", announced=[], status=_worker(warm)),
            Worker(role="ledger", url="http://c", announced=[1], status=None),
        ],
    )
    page = partitions.document_of(fleet, 2)
    found = {(one.role, one.partition): one for one in page.partitions}
    assert len(found) == 6
    first = found["decide", 0]
    assert (first.owner, first.lag, first.restore_percent) == ("http://a", 7, 25)
    assert [(one.worker, one.behind) for one in first.standbys] == [("http://b", 10)]
    assert (found["decide", 1].state, found["decide", 1].owner) == ("no owner", None)
    assert (found["ledger", 1].state, found["ledger", 1].owner) == ("silent", "http://c")
    assert [one.answers for one in page.workers] == [True, True, False]


def _worker(*details: PartitionStatus) -> WorkerStatus:
    return WorkerStatus(role="decide", ready=True, details=list(details))


@pytest.mark.parametrize(("hours", "slot_ms"), [(24, HOUR_MS), (168, DAY_MS)])
def test_counts_fall_into_their_slots(hours: int, slot_ms: int) -> None:
    now = document_of(FleetStatus(at_ms=DAY0, workers=[]))
    newest = DAY0
    counts = [
        Count("message", "", "event", "held", 5, newest),
        Count("message", "", "event", "held", 3, newest - slot_ms),
        Count("message", "", "suppressed", "opted_out", 2, newest),
    ]
    page = page_of(counts, hours, now, 2, 2, 744)
    (events, *_rest) = page.charts
    assert [series.values[-2:] for series in events.series] == [[3, 5]]
    assert (page.events, page.withheld, page.slot_ms) == (8, 2, slot_ms)
    assert len(events.times_ms) == 2, "from the first count on"
    assert page.choices[-1] == (744, "last month")
