"""Rows 14 and 16: one recipient who gets too much, and everything said again and again."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from streams import topics
from tests.eventually import eventually
from tests.faults.load import now_ms
from tests.faults.sightings import latencies_ms, percentile
from tests.faults.site import Site, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
HOT_SHARE = 0.3
HOT_STATE_BYTES_MAX = 256 * 1024
"""Of one recipient, all parts of the state together."""
RATE = 120
PHASE_S = 20.0
SLOWER_MAX = 2.0
NOISE_MS = 250
"""What a busy machine may add to a percentile, whatever the load is."""
KINDS = ("apns", "email", "sms")
TIMES = 10
LASTING = ("security", "payment")


@pytest.mark.row("14", f"{HOT_SHARE:.0%} of the load on one recipient")
async def test_hot_recipient(site: Site, verdict: Any) -> None:
    await site.everybody()
    load, hot = site.load, site.load.people[0]
    await load.choose(hot, default=True, quiet_hours=[])
    async with under_load(site, per_second=RATE):
        await asyncio.sleep(3.0)  # the first requests open connections
        even_ms = now_ms()
        await asyncio.sleep(PHASE_S)
    load.hot, load.hot_share = hot, HOT_SHARE
    async with under_load(site, per_second=RATE):
        hot_ms = now_ms()
        await asyncio.sleep(PHASE_S)
        ended_ms = now_ms()
    evidence = await site.settled()
    finding = await site.judge(evidence)
    before = latencies_ms(evidence, even_ms, hot_ms, KINDS, "security", hot)
    during = latencies_ms(evidence, hot_ms, ended_ms, KINDS, "security", hot)
    worst = [percentile(before, 0.99), percentile(during, 0.99)]
    if worst[1] > max(worst[0] * SLOWER_MAX, NOISE_MS):
        finding.faults.append(f"others: 99 % took {worst[0]} ms before and {worst[1]} ms meanwhile")
    largest = largest_state(evidence.records, hot)
    if not 0 < largest <= HOT_STATE_BYTES_MAX:
        finding.faults.append(f"state: one recipient had {largest} bytes")
    note = f"others' p99 {worst[0]} ms before, {worst[1]} ms meanwhile; state {largest:,} bytes"
    await verdict(finding, note=note)


def largest_state(records: Mapping[tuple[str, int], Sequence[Any]], recipient: str) -> int:
    """Bytes of one recipient's state when it was largest."""
    parts: dict[bytes, int] = {}
    largest = 0
    for (topic, _), changes in records.items():
        for change in changes if topic == topics.STATE_CHANGELOG else ():
            if change.key and change.key[1:] == recipient.encode():
                parts[change.key] = len(change.value or b"")
                largest = max(largest, sum(parts.values()))
    return largest


@pytest.mark.faults_short
@pytest.mark.row("16a", "every event is sent three times, shuffled")
async def test_everything_three_times(site: Site, verdict: Any) -> None:
    await site.everybody()
    events = [site.load.event() for _ in range(200)] * 3
    site.load.draw.shuffle(events)
    for number in range(0, len(events), 60):
        # One person's records are sent one after the other: which comes first is said by the log.
        await asyncio.gather(*(site.load.send_event(one) for one in events[number : number + 60]))
    finding = await site.judge()
    decided = (await site.evidence()).of((topics.DECISIONS,))
    entries = itertools.chain.from_iterable(
        site.codec.decode("decision", record.value)["entries"] for record in decided
    )
    duplicates = sum(entry["reason"] == "duplicate" for entry in entries)
    if duplicates != 400:
        finding.faults.append(f"{duplicates} duplicates were found of 400")
    await verdict(finding)


@pytest.mark.row("16b", f"every receipt {TIMES} times, shuffled")
async def test_receipts_again(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        receipts: list[tuple[str, dict[str, Any]]] = []
        for _ in range(3):
            await asyncio.sleep(3.0)
            receipts += await new_receipts(site, len(receipts) // (2 * TIMES))
            site.load.draw.shuffle(receipts)
            send = site.load.send
            sending = [send("receipt", topics.RECEIPTS, who, one) for who, one in receipts]
            await asyncio.gather(*sending)
    assert receipts, "nothing was delivered that could have a receipt"
    await verdict()


async def new_receipts(site: Site, skip: int) -> list[tuple[str, dict[str, Any]]]:
    """(recipient, receipt) for what was delivered since, each many times."""
    evidence = await site.evidence()
    accepted = [one.delivery_id for one in evidence.receptions if one.said == "accepted"]
    found = []
    for delivery_id, kind in itertools.product(accepted[skip:], ("delivered", "seen")):
        for _, delivery in evidence.deliveries.get(delivery_id, [])[:1]:
            receipt = {
                "recipient_id": delivery.recipient_id, "kind": kind, "delivery_id": delivery_id,
                "notification_id": delivery.notification_id, "event_id": delivery.event_id,
                "destination_id": delivery.destination_id, "name": None,
                "occurred_at_ms": now_ms(),
            }  # fmt: skip
            found += [(delivery.recipient_id, receipt)] * TIMES
    return found


async def redrive(site: Site) -> str:
    """The operator's command, as a process; what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "redrive", "--yes", "--config", str(site.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.row("16c", "dead letters are redriven twice")
async def test_redrive_twice(site: Site, verdict: Any) -> None:
    # What is redriven must still be worth sending when the operator comes.
    site.configure(
        defaults={"retry": {"attempts_max": 2}},
        categories={name: {"expires_after": "3m"} for name in LASTING},
    )
    await site.everybody()
    await site.faults(apns="throttled", sms="throttled", webhook="throttled", email="throttled")
    draw = site.load.draw
    events = [site.load.event(category=draw.choice(LASTING)) for _ in range(150)]
    await asyncio.gather(*(site.load.send_event(event) for event in events))

    async def died() -> bool:
        return len(list((await site.evidence()).of((topics.DEAD_LETTERS,)))) >= 30

    await eventually(died, 90)
    await site.settled()
    await site.faults()
    since = time.monotonic()
    said = [await redrive(site), await redrive(site)]
    await site.settled()
    said.append(await redrive(site))
    evidence = await site.settled()
    finding = await site.judge(evidence)
    accepted = {one.delivery_id for one in evidence.receptions if one.said == "accepted"}
    dead = [
        letter["delivery"]
        for record in evidence.of((topics.DEAD_LETTERS,))
        if (letter := site.codec.decode("dead_letter", record.value))["delivery"] is not None
    ]
    if not any("sent again" in text for text in said):
        finding.faults.append(f"redrive did nothing: {said}")
    if not accepted & {delivery["delivery_id"] for delivery in dead}:
        finding.faults.append("nothing that was redriven reached its provider")
    site.again_s.append(time.monotonic() - since)
    await verdict(finding, again_s_max=300.0)
