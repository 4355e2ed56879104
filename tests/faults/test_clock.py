"""Row 10: clocks that jump by hours, and the night in which an hour does not exist.

``libfaketime`` (the Debian package of that name) gives a process another clock. The steady clock
stays as it is, as on a machine whose time somebody has set.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.eventually import eventually
from tests.faults.load import EVERY_DAY, now_ms
from tests.faults.sightings import accepted_by
from tests.faults.site import Site, open_site, seed_of_run, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
LIBRARY_NAME = "faketime/libfaketimeMT.so.1"
LIBRARY = next(iter(sorted(Path("/usr/lib").glob(f"*/{LIBRARY_NAME}"))), None)
needs_library = pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime: apt-get install libfaketime"
)
ZONE = ZoneInfo("America/New_York")
BEFORE_S = 90
"""A site is up in less, so that there is time left for what is to be held."""
LATE_MS_MAX = 20_000
JUMPS_H = (2, -2, 25, -25)
WRONG_S = 5.0


def faked(**more: str) -> dict[str, str]:
    """Environment of a process with another clock."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # With glibc of today its work-around for waits on the steady clock makes them endless.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "FAKETIME_CACHE_DURATION": "1",
        **more,
    }


@needs_library
@pytest.mark.row("10a", "workers' clocks jump by 2 h and by 25 h, both ways")
async def test_clock_jumps(site: Site, verdict: Any) -> None:
    said = site.folder / "clock"
    said.write_text("+0")
    await site.everybody(**faked(FAKETIME_TIMESTAMP_FILE=str(said)))
    keeper = site.keep_running()
    faults: list[str] = []
    async with under_load(site):
        for hours in JUMPS_H:
            await asyncio.sleep(1.0)
            said.write_text(f"{hours * 3_600:+d}")
            for name in ("decide", "deliver"):
                log = site.folder / "logs" / f"{name}.log"
                await eventually(partial(refused, log), 60)
                log.with_suffix(".until-then").write_text(log.read_text())
            before = await site.decided()
            await asyncio.sleep(WRONG_S)
            if await site.decided() != before:
                faults.append(f"decided with a clock that was wrong by {hours} h")
            said.write_text("+0")
            await site.running_again(time.monotonic())
            for name in ("decide", "deliver"):
                (site.folder / "logs" / f"{name}.log").write_text("")
        ended_ms = now_ms()
        await asyncio.sleep(5.0)
    finding = await site.judge()
    keeper.cancel()
    finding.faults += faults
    if not accepted_by(await site.evidence(), ended_ms).get("apns"):
        finding.faults.append("apns: no token was accepted afterwards")
    await verdict(finding)


def refused(log: Path) -> int:
    """How often a worker refused its clock, by its log."""
    text = log.read_text(errors="replace")
    return text.count("of this machine jumped by") + text.count("the clock of this machine is")


# --------------------------------------------------------------------------- daylight saving time


def next_gap() -> datetime:
    """When clocks in ``ZONE`` next leave an hour out."""
    moment = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    while True:
        later = moment + timedelta(hours=1)
        before, after = (one.astimezone(ZONE).utcoffset() for one in (moment, later))
        assert before is not None
        assert after is not None
        if after > before:
            return later
        moment = later


@pytest.fixture
async def site_before_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Site, int]]:
    """A site that lives a minute before the gap, with Kafka and the providers; and the gap."""
    gap_ms = int(next_gap().timestamp() * 1000)
    ahead_s = gap_ms // 1000 - BEFORE_S - int(time.time())
    for name, value in faked(FAKETIME=f"+{ahead_s}s").items():
        monkeypatch.setenv(name, value)
    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_site(tmp_path, seed_of_run()))
        opened.ahead_ms = ahead_s * 1000
        yield opened, gap_ms


@needs_library
@pytest.mark.row("10b", "quiet hours that end in the hour that daylight saving time leaves out")
async def test_hour_left_out(site_before_gap: tuple[Site, int], verdict_on: Any) -> None:
    site, gap_ms = site_before_gap
    site.configure(categories={"payment": {"quiet_action": "hold", "expires_after": "10m"}})
    await site.everybody()
    people = site.load.people[:40]
    until_half_past_two = {"start_minute": 0, "end_minute": 150, "weekdays": EVERY_DAY}
    await asyncio.gather(
        *(
            site.load.choose(person, default=True, zone=ZONE.key, quiet_hours=[until_half_past_two])
            for person in people
        )
    )
    await asyncio.gather(
        *(site.load.send_event(site.load.event(person, "payment")) for person in people)
    )
    await site.all_decided()
    assert now_ms() + site.ahead_ms < gap_ms, "the site was up too late"
    await eventually(lambda: accepted_since(site, gap_ms) >= len(people) // 2, BEFORE_S + 60)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    first: dict[str, int] = {}
    for reception in evidence.receptions:
        for _, delivery in evidence.deliveries.get(reception.delivery_id, [])[:1]:
            if delivery.category == "payment":
                first.setdefault(delivery.recipient_id, reception.at_ms)
    early = [at_ms for at_ms in first.values() if at_ms < gap_ms]
    late = [at_ms - gap_ms for at_ms in first.values() if at_ms > gap_ms + LATE_MS_MAX]
    if early or late or not first:
        finding.faults.append(f"{len(early)} of {len(first)} came early, {len(late)} late: {late}")
    await verdict_on(site, finding)


def accepted_since(site: Site, since_ms: int) -> int:
    """Messages that providers took since then."""
    return sum(one.said == "accepted" and one.at_ms >= since_ms for one in site.receptions())
