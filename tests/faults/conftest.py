"""The frame of each row: a site, the verdict, and a line of the results.

``SEED=7`` draws another run, ``ONLY=2`` or ``ONLY=11a`` runs one row, ``RESUME=1`` passes over
what held before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults import disks, results
from tests.faults.site import Finding, Site, open_site, seed_of_run

MOSTLY_WAIT = ("4", "6", "11a")
"""Long rows in which little happens: they run beside the others."""
Verdict = Callable[..., Awaitable[Finding]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rows run one after the other, in the order of the table."""
    only = os.environ.get("ONLY", "")
    for item in items:
        mark = item.get_closest_marker("row")
        if mark is None:
            continue
        beside = mark.args[0] in MOSTLY_WAIT
        item.add_marker(pytest.mark.xdist_group("faults-waiting" if beside else "faults"))
        if only and mark.args[0].rstrip("abcdefghijklmnop") != only and mark.args[0] != only:
            item.add_marker(pytest.mark.skip(reason=f"ONLY={only}"))
        elif results.holds_already(mark.args[0], seed_of_run()):
            item.add_marker(
                pytest.mark.skip(reason="held before with this seed (make faults FRESH=1 repeats)")
            )


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A site with nothing running but Kafka and the providers."""
    async with contextlib.AsyncExitStack() as stack:
        small = request.node.get_closest_marker("kafka_disk_mib")
        if small is not None:
            stack.enter_context(disks.small_disk(tmp_path / "kafka", small.args[0]))
        yield await stack.enter_async_context(open_site(tmp_path, seed_of_run()))


@pytest.fixture
def verdict(site: Site, verdict_on: Verdict) -> Verdict:
    """The verdict on the site that the row has."""
    return partial(verdict_on, site)


@pytest.fixture
def verdict_on(request: pytest.FixtureRequest) -> Verdict:
    """Judges a site, keeps the line of the row, and fails the test if anything is wrong."""
    mark = request.node.get_closest_marker("row")
    assert mark is not None, "every test here is a row"

    async def judge(
        site: Site, finding: Finding | None = None, note: str = "", again_s_max: float = 60.0
    ) -> Finding:
        found = finding or await site.judge()
        slow = [second for second in site.again_s if second > again_s_max]
        if slow:
            found.faults.append(f"running again only after {max(slow):.1f} s")
        results.write(
            results.Result(
                row=mark.args[0], fault=mark.args[1], seed=site.seed, code=results.code_hash(),
                holds=not found.faults, events=found.events, lost=found.lost,
                repeated=found.repeated, allowed=found.allowed,
                again_s=tuple(round(second, 2) for second in site.again_s), note=note,
                faults=tuple(found.faults[:10]),
            )
        )  # fmt: skip
        assert not found.faults, "\n".join(found.faults[:20])
        return found

    return judge
