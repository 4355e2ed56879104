"""Rows 11, 15 and 18: providers that fail in every way they have."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import aiohttp
import pytest

from streams import topics
from tests.eventually import eventually
from tests.faults.load import now_ms
from tests.faults.sightings import accepted_by, latencies_ms, percentile, statuses, too_soon
from tests.faults.site import Site, under_load
from tests.faults.worker import Worker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1_200)]
REFUSED_S = float(os.environ.get("REFUSED_S", "600"))
OTHERS = ("email", "sms")
SLOWER_MAX = 2.0
NOISE_MS = 500
"""What a busy machine may add to a percentile, whatever the providers do."""
RETRY_AFTER_MS = 1_000
"""What the provider says with its 429 (``provider.py``)."""
CROWD = 5_000
PRUNED_MAX = 150
"""The guard closes after ``prune.answers_min`` answers (100) and what was under way by then."""


async def metric(worker: Worker, line: str) -> float:
    """A number of a worker's ``/metrics``."""
    async with aiohttp.ClientSession() as client, client.get(f"{worker.url}/metrics") as answer:
        text = await answer.text()
    values = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line)]
    return sum(map(float, values))


@pytest.mark.row("11a", f"a provider answers 503 for {REFUSED_S / 60:g} minutes")
async def test_provider_unavailable(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site, per_second=20):
        await asyncio.sleep(20.0)
        began_ms = now_ms()
        await site.faults(apns="unavailable")
        await asyncio.sleep(10.0)
        shown = await metric(site.workers["deliver"], 'flowstate_provider_open{provider="apns"}')
        await asyncio.sleep(REFUSED_S - 10.0)
        ended_ms = now_ms()
        await site.faults()
        await asyncio.sleep(10.0)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    before = latencies_ms(evidence, 0, began_ms, OTHERS, "security")
    during = latencies_ms(evidence, began_ms, ended_ms, OTHERS, "security")
    worst = [percentile(before, 0.95), percentile(during, 0.95)]
    if worst[1] > worst[0] * SLOWER_MAX + NOISE_MS:
        finding.faults.append(f"others: 95 % took {worst[0]} ms before and {worst[1]} ms meanwhile")
    asked = sum(1 for one in evidence.receptions if one.said == "later")
    meant = sum(1 for record in evidence.of((topics.deliveries("apns"),)) if record)
    if asked > meant / 4:
        finding.faults.append(f"breaker: {asked} requests in the outage, of {meant} deliveries")
    if not shown:
        finding.faults.append("metrics: flowstate_provider_open did not show the open breaker")
    if not accepted_by(evidence, ended_ms).get("apns"):
        finding.faults.append("apns: nothing went through when the provider was back")
    await verdict(finding, note=f"others' p95 {worst[0]} ms before, {worst[1]} ms meanwhile")


@pytest.mark.row("11b", "providers answer 429 with Retry-After")
async def test_throttled(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        await site.faults(apns="throttled", sms="throttled", webhook="throttled")
        await asyncio.sleep(10.0)
        ended_ms = now_ms()
        await site.faults()
        await asyncio.sleep(2.0)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    finding.faults += [f"retries: {text}" for text in too_soon(evidence, RETRY_AFTER_MS)[:5]]
    if not any(one.said == "later" for one in evidence.receptions):
        finding.faults.append("nothing was refused: the row has tested nothing")
    for kind in ("apns", "sms", "webhook"):
        if not accepted_by(evidence, ended_ms).get(kind):
            finding.faults.append(f"{kind}: nothing went through afterwards")
    await verdict(finding)


@pytest.mark.row("11c", "providers are slow; one never answers")
async def test_slow_and_silent(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        await site.faults(webhook="slow", email="slow", apns="silent", sms="silent")
        await asyncio.sleep(15.0)
        ended_ms = now_ms()
        await site.faults()
        await asyncio.sleep(2.0)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    for kind in ("apns", "email", "sms", "webhook"):
        if not accepted_by(evidence, ended_ms).get(kind):
            finding.faults.append(f"{kind}: nothing went through afterwards")
    await verdict(finding)


@pytest.mark.row("11d", "connections reset after the message was taken")
async def test_reset_after_accept(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        await site.faults(apns="reset", sms="reset", webhook="reset")
        await asyncio.sleep(6.0)
        await site.faults()
        await asyncio.sleep(2.0)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    if not finding.allowed:
        finding.faults.append("nothing was in doubt: the row has tested nothing")
    await verdict(finding)


@pytest.mark.row("11e", "GOAWAY after every few requests")
async def test_goaway(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site, per_second=80):
        await site.faults(apns="goaway")
        await asyncio.sleep(10.0)
        await site.faults()
    evidence = await site.settled()
    finding = await site.judge(evidence)
    if not accepted_by(evidence, 0).get("apns"):
        finding.faults.append("apns: nothing went through between the GOAWAYs")
    await verdict(finding)


@pytest.mark.row("11f", f"410 for {CROWD:,} devices at once")
async def test_gone_devices(site: Site, verdict: Any) -> None:
    await site.everybody()
    crowd = [f"crowd-{number:04}" for number in range(CROWD)]
    await asyncio.gather(*(site.load.register(person, "apns") for person in crowd))
    await site.faults(apns="gone")
    for start in range(0, CROWD, 500):
        await asyncio.gather(
            *(site.load.send_event(site.load.event(person, "message"))
              for person in crowd[start : start + 500])
        )  # fmt: skip
    await site.load.events(200)
    evidence = await site.settled()
    gone = {one.delivery_id for one in evidence.receptions if one.said == "gone"}
    assert len(gone) >= CROWD, f"only {len(gone)} devices were said to be gone"
    pruned = statuses(evidence).get("unregistered", 0)
    held = await metric(site.workers["deliver"], 'flowstate_provider_prune_held{provider="apns"}')
    await site.faults()
    since_ms = now_ms()
    again = crowd[::10]
    await asyncio.gather(
        *(site.load.send_event(site.load.event(person, "security")) for person in again)
    )
    evidence = await site.settled()
    finding = await site.judge(evidence)
    # So many at once is rather a mistake of the provider's or ours: only a few are believed.
    if not 0 < pruned <= PRUNED_MAX:
        finding.faults.append(f"{pruned} addresses were removed before the guard closed")
    if not held:
        finding.faults.append("metrics: flowstate_provider_prune_held did not show the guard")
    told = accepted_by(evidence, since_ms, again).get("apns", 0)
    if told < len(again) - pruned:
        finding.faults.append(f"only {told} of {len(again)} devices were reached afterwards")
    for kind in OTHERS:
        if not accepted_by(evidence, 0).get(kind):
            finding.faults.append(f"{kind}: nothing went through")
    await verdict(finding, note=f"{pruned} addresses removed before the guard closed")


@pytest.mark.faults_short
@pytest.mark.row("15", "opt-out between a decision and its retry")
async def test_opt_out_before_retry(site: Site, verdict: Any) -> None:
    await site.everybody()
    people = site.load.people[:60]
    await asyncio.gather(
        *(site.load.choose(person, default=True, quiet_hours=[]) for person in people)
    )
    await site.faults(apns="throttled", sms="throttled", webhook="throttled", email="throttled")
    events = [site.load.event(person, "payment") for person in people]
    await asyncio.gather(*(site.load.send_event(event) for event in events))

    def refused() -> int:
        return len({one.delivery_id for one in site.receptions() if one.said == "later"})

    await eventually(lambda: refused() >= 30, 60)
    await asyncio.gather(*(site.load.choose(person, default=False) for person in people))
    await site.all_decided()
    # What was handed over before may still be tried, as long as its decision is valid.
    await asyncio.sleep(site.settings.policy.delivery_valid_ms / 1000 + 1.0)
    since_ms = now_ms()
    await site.faults()
    await site.load.events(100)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    told = accepted_by(evidence, since_ms, people)
    mandatory = sum(
        1 for _, delivery in (pair for pairs in evidence.deliveries.values() for pair in pairs)
        if delivery.recipient_id in people and delivery.category == "security"
    )  # fmt: skip
    if sum(told.values()) > mandatory:
        finding.faults.append(f"sent to people who had opted out meanwhile: {told}")
    await verdict(finding)


@pytest.mark.row("18", "the providers' credentials are wrong: all is refused")
async def test_wrong_credentials(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        await site.faults(apns="unauthorized", sms="unauthorized", webhook="unauthorized")
        await asyncio.sleep(15.0)
        ended_ms = now_ms()
        await site.faults()
        since = time.monotonic()
        await eventually(lambda: _went_through(site, ended_ms), 60)
        site.again_s.append(time.monotonic() - since)
    evidence = await site.settled()
    finding = await site.judge(evidence)
    if pruned := statuses(evidence).get("unregistered", 0):
        finding.faults.append(f"{pruned} addresses were called unregistered")
    removed = sum(
        site.codec.decode("destination", record.value)["removed"]
        for record in evidence.of((topics.DESTINATIONS,))
    )
    if removed:
        finding.faults.append(f"{removed} destinations were removed")
    await verdict(finding)


def _went_through(site: Site, since_ms: int) -> bool:
    kinds = {
        one.kind for one in site.receptions() if one.said == "accepted" and one.at_ms > since_ms
    }
    return {"apns", "sms", "webhook"} <= kinds
