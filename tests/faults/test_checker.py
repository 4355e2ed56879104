"""The checker first: what is broken on purpose must be caught, in real processes too."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.broken import BREAKS
from tests.faults.site import Site, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
BROKEN = "tests.faults.broken:"
REQUIRED = list(BREAKS)[:3]
WHERE = {"commit before send": "deliver", "drop on 429": "deliver",
         "skipped opt-out check": "decide"}  # fmt: skip
CAUGHT_BY = {
    "commit before send": "books:",
    "drop on 429": "refusals:",
    "skipped opt-out check": "choices:",
}


@pytest.mark.parametrize("name", REQUIRED)
async def test_a_broken_product_is_caught(site: Site, name: str) -> None:
    await site.everybody()
    role = WHERE[name]
    site.workers[role].kill()
    broken = site.start(role, variant=BROKEN + name)
    await site.ready(broken)
    if name == "drop on 429":
        await site.faults(sms="throttled", apns="throttled", webhook="throttled")
    if name == "commit before send":
        await site.faults(sms="slow", apns="slow", webhook="slow", email="slow")
    async with under_load(site):
        for _ in range(3):
            await asyncio.sleep(3.0)
            if name == "commit before send":
                site.workers[role].kill()
                await site.ready(site.start(role, variant=BROKEN + name))
    await site.faults()
    finding = await site.judge(await site.settled(deadline_s=60.0), replay=False)
    caught = [fault for fault in finding.faults if fault.startswith(CAUGHT_BY[name])]
    assert caught, f"{name} was not caught; found only {finding.faults[:5]}"
