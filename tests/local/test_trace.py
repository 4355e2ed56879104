"""The trace: every line once, times that never go back, the same events for the same seed."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from pathlib import Path

import pytest

from streams.local.trace import (
    CATEGORY_PER_MILLE,
    Line,
    TraceError,
    category_of,
    event_of,
    events_of,
    read_trace,
    trace_path,
)


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return read_trace(trace_path())


def write_trace(folder: Path, text: str) -> Path:
    path = folder / "trace.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_every_line_of_the_trace_is_there_once(lines: list[Line]) -> None:
    assert [line.number for line in lines] == list(range(1, 59_836))
    assert len({line.sender for line in lines} | {line.recipient for line in lines}) == 1_899


def test_times_only_go_forward_and_stay_in_their_minute(lines: list[Line]) -> None:
    assert all(a.sent_at_ms < b.sent_at_ms for a, b in itertools.pairwise(lines))
    assert lines[0].sent_at_ms == 1_082_040_960_000
    assert lines[-1].sent_at_ms < (1_098_777_120 + 60) * 1_000


def test_lines_of_a_minute_are_spread_evenly_in_line_order(tmp_path: Path) -> None:
    path = write_trace(tmp_path, "sent_at_s,sender,recipient\n60,1,2\n60,3,4\n120,5,6\n")
    assert read_trace(path) == [
        Line(1, 60_000, 1, 2),
        Line(2, 90_000, 3, 4),
        Line(3, 120_000, 5, 6),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,from,to\n60,1,2\n", "columns"),
        ("sent_at_s,sender,recipient\n60,1,2\n0,1,2\n", "not sorted"),
    ],
)
def test_a_trace_that_is_not_one_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        read_trace(write_trace(tmp_path, text))


def test_the_same_seed_gives_the_same_events(lines: list[Line]) -> None:
    some = lines[:2_000]
    assert list(events_of(some, seed=7)) == list(events_of(some, seed=7))
    assert list(events_of(some, seed=7)) != list(events_of(some, seed=8))


def test_the_shares_of_categories_are_about_what_is_declared(lines: list[Line]) -> None:
    counts = Counter(category_of(line, seed=7) for line in lines)
    for category, per_mille in CATEGORY_PER_MILLE:
        assert counts[category] / len(lines) == pytest.approx(per_mille / 1_000, rel=0.1)
    assert counts["message"] > len(lines) / 2


def test_an_event_names_its_line_its_recipient_and_its_sender() -> None:
    line = Line(number=17, sent_at_ms=1_082_040_960_000, sender=3, recipient=4)
    seed = next(seed for seed in range(100) if category_of(line, seed) == "message")
    event = event_of(line, seed)
    assert event.value["event_id"] == "college-00017"
    assert event.recipient_id == event.value["recipient_id"] == "member-0004"
    assert event.value["actor_id"] == "member-0003"
    assert event.value["created_at_ms"] == event.sent_at_ms == 1_082_040_960_000
