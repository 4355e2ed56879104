"""A role without state goes on where it committed, over restarts and rebalances; and its pages."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

import pytest

from streams.local.processes import free_port
from tests.engine.harness import Bench
from tests.engine.test_ownership import owned
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]

COPY = "tests.engine.copying"


def begins(log: str) -> dict[int, tuple[int, str]]:
    """Partition -> (offset, metadata) of its latest start."""
    found = re.findall(
        r"partition (\d+) begins with Committed\(offset=(\d+), metadata='(\w*)'\)", log
    )
    return {int(partition): (int(offset), metadata) for partition, offset, metadata in found}


def committed_to(log: str, offset: int) -> set[int]:
    """Partitions whose position was committed up to ``offset``."""
    found = re.findall(rf"partition (\d+) committed Committed\(offset={offset},", log)
    return {int(partition) for partition in found}


@pytest.mark.parametrize("bench", [{"partitions": 2}], indirect=True)
async def test_commits_and_their_metadata_are_found_again(bench: Bench) -> None:
    await bench.send(bench.names.normal, 100)
    first = bench.start(module=COPY)
    await bench.settled(100)
    assert await first.stop() == 0
    await bench.send(bench.names.normal, 20)
    second = bench.start(module=COPY)
    assert len(await bench.settled(120)) == 120
    assert begins(second.log()) == {0: (50, "clean"), 1: (50, "clean")}
    # An output is seen before its position is committed: a kill in between leaves "clean".
    await eventually(lambda: committed_to(second.log(), 60) == {0, 1}, 40)
    second.kill()
    third = bench.start(module=COPY)
    await eventually(lambda: len(begins(third.log())) == 2, 40)
    assert {metadata for _, metadata in begins(third.log()).values()} == {"dirty"}
    assert await third.stop() == 0


@pytest.mark.parametrize("bench", [{"partitions": 4}], indirect=True)
async def test_a_rebalance_commits_before_it_goes_on(bench: Bench) -> None:
    await bench.send(bench.names.normal, 200)
    first = bench.start(name="a", module=COPY)
    await bench.settled(200)
    second = bench.start(name="b", module=COPY)
    await eventually(lambda: len(owned(first)) == len(owned(second)) == 2, 40)
    await eventually(lambda: len(begins(second.log())) == 2, 40)
    assert set(begins(second.log()).values()) == {(50, "clean")}
    await bench.send(bench.names.normal, 40)
    assert len(await bench.settled(240)) == 240
    assert await second.stop() == 0
    bench.workers.pop()
    await eventually(lambda: len(owned(first)) == 4, 40)
    assert await first.stop() == 0
    assert len(await bench.outputs()) == 240


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def test_the_pages_tell_how_a_worker_is(bench: Bench) -> None:
    port = free_port()
    await bench.send(bench.names.normal, 100)
    worker = bench.start(web_enabled=True, web_port=port)
    await eventually(lambda: get(port, "/health/live")[0] == 200, 40)
    await eventually(lambda: get(port, "/health/ready")[0] == 200, 40)
    await bench.settled(100)
    described: dict[str, Any] = json.loads(get(port, "/engine")[1])
    assert described["partitions"] == {"0": "running", "1": "running"}
    metrics = get(port, "/metrics")[1]
    assert 'flowstate_records_total{partition="0"} 50.0' in metrics
    assert "flowstate_commit_seconds_count" in metrics
    no_lag = 'flowstate_lag_records{lane="normal",partition="0"} 0.0'
    await eventually(lambda: no_lag in get(port, "/metrics")[1], 10)
    assert await worker.stop() == 0


async def test_topics_that_are_wrong_end_the_start_with_a_sentence(bench: Bench) -> None:
    worker = bench.start(partitions=3)
    assert await worker.exit_status() == 1
    assert f"topic {bench.names.normal} has 2 partitions instead of 3" in worker.log()


async def test_two_workers_do_not_share_a_folder(bench: Bench) -> None:
    first = bench.start(name="a")
    await eventually(lambda: owned(first), 40)
    second = bench.start(name="a", worker_name="other")
    assert await second.exit_status() == 1
    assert "give each its own data_folder" in second.log()
    assert await first.stop() == 0
