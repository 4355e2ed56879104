"""The benchmarks themselves, with tiny sizes: they run to their end, and what they count is right.

Speeds are not looked at: they say something on a quiet machine only.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import decide, deliver, end_to_end, process, thin, thin_rules
from benchmarks.__main__ import main, measure
from benchmarks.catalogue import BENCHMARKS
from benchmarks.report import Options

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


def test_decide_and_its_twin(tmp_path: Path) -> None:
    options = Options(quick=True, events=600, recipients=60, partitions=2, results=tmp_path)
    (figures,) = measure(decide.BENCHMARK, options, repeats=1)
    assert figures["events_unaccounted"] == 0
    assert figures["dead_letters"] == 0
    assert figures["twin_events"] == 600
    assert figures["ratio_to_twin"] > 0
    written = json.loads((tmp_path / "decide-quick.json").read_text())
    assert written["figures"]["events_per_second"]["median"] == figures["events_per_second"]
    assert written["options"]["events"] == 600
    assert written["machine"]["cores"] >= 1


def test_thin_delivers_what_the_oracle_says(tmp_path: Path) -> None:
    options = Options(quick=True, events=500, recipients=40, partitions=2, results=tmp_path)
    figures = thin.BENCHMARK.run(options)
    assert figures["deliveries"] == thin_rules.oracle(500, 40) > 0
    assert figures["deliveries_wrong"] == 0
    assert figures["bare_events_per_second"] > 0
    assert figures["faust_events_per_second"] > 0


def test_end_to_end_answers_on_every_lane(tmp_path: Path) -> None:
    options = Options(
        quick=True, recipients=300, partitions=2, rate=200, seconds=1, results=tmp_path
    )
    figures = end_to_end.BENCHMARK.run(options)
    for lane in ("critical", "normal"):
        assert figures[f"{lane}_answers"] > 0
        assert figures[f"{lane}_p50_ms"] <= figures[f"{lane}_p99_ms"]
    assert figures["answers_not_accepted"] == 0


def test_deliver_sends_through_every_http_sink_and_makes_up_for_an_outage(tmp_path: Path) -> None:
    options = Options(quick=True, events=200, partitions=2, seconds=3, results=tmp_path)
    figures = deliver.BENCHMARK.run(options)
    for kind in deliver.KINDS:
        assert figures[f"{kind}_per_second"] > 0
        assert figures[f"{kind}_cpu_us"] > 0
    assert figures["outage_deliveries"] >= deliver.OUTAGE_PER_SECOND
    assert 0 < figures["outage_handed_back"] < figures["outage_deliveries"]
    assert figures["recovery_seconds"] > 0


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    said = capsys.readouterr()
    assert "there is no benchmark 'nonsense'" in said.err
    assert all(benchmark.name in said.out for benchmark in BENCHMARKS)


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", "\u00b2"])
def test_a_count_of_none_is_refused_by_name(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["end-to-end", f"--workers={count}"])
    assert ended.value.code == 2
    assert "--workers" in capsys.readouterr().err


def test_process_says_the_same_digest_for_the_same_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(quick=True, events=300, recipients=40, partitions=2, results=tmp_path)
    for _ in range(2):
        figures = process.BENCHMARK.run(options)
        assert len(figures) == process.ROUNDS
        assert min(figures.values()) > 0
    digests = re.findall(r"state and outputs: (\w+)", "".join(capsys.readouterr()))
    assert len(digests) == 2
    assert len(set(digests)) == 1
