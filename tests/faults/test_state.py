"""Rows 7 to 9: local state lost or damaged, the changelog gone, disks full."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams import topics
from streams.engine.topics_admin import config_of, create_topics
from streams.simulation.replay import Replay
from streams.tables import FENCE
from tests.eventually import eventually
from tests.faults import disks
from tests.faults.site import PARTITIONS, Finding, Site, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
STATE_DISK_MIB = 24
FULL_S = 15.0


def state_folder(site: Site) -> Path:
    """Databases of the worker named ``decide``."""
    return site.folder / "data" / "decide" / "decide"


async def compare_disk(site: Site, finding: Finding) -> None:
    """The databases of the only decide worker hold what deciding again gives."""
    assert await site.workers["decide"].stop() == 0
    evidence = await site.evidence()
    for number in range(PARTITIONS):
        changelog = evidence.records.get((topics.STATE_CHANGELOG, number), ())
        replay = Replay(evidence, number, changelog, site.settings.engine.wake_owners_max)
        finding.faults += replay.differences()
        state, due = disks.contents(state_folder(site) / f"partition-{number:05}")
        state.pop(FENCE, None)
        if state != replay.copy.data:
            finding.faults.append(f"disk: partition {number} holds other state than was decided")
        if due != replay.copy.due:
            finding.faults.append(f"disk: partition {number} holds another index of due times")


@pytest.mark.row("7", "local state deleted, its bytes flipped, its files cut short")
async def test_damaged_state(site: Site, verdict: Any) -> None:
    await site.everybody()
    keeper = None
    async with under_load(site):
        for how in disks.HARMS * 2:
            await asyncio.sleep(site.load.draw.uniform(1.0, 2.0))
            if keeper is not None:
                keeper.cancel()
            site.workers["decide"].kill()
            disks.harm(state_folder(site), how, site.load.draw)
            since = time.monotonic()
            keeper = site.keep_running()
            await site.running_again(since)
    finding = await site.judge()
    if keeper is not None:
        keeper.cancel()
    await compare_disk(site, finding)
    await verdict(finding)


# ------------------------------------------------------------------------------- the changelog


async def empty_changelog(site: Site) -> None:
    """Deletes all of its records, as an operator's tool would."""
    changelog = topics.STATE_CHANGELOG
    admin = AIOKafkaAdminClient(bootstrap_servers=site.broker.bootstrap)
    await admin.start()
    try:
        # What is not named goes back to the broker's default, and the start would refuse that.
        kept = config_of(topics.BY_NAME[changelog], stream_time=False)
        both = {**kept, "cleanup.policy": "compact,delete"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, changelog, both)])
        everything = {
            TopicPartition(changelog, number): RecordsToDelete(before_offset=-1)
            for number in range(PARTITIONS)
        }
        await admin.delete_records(everything)
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, changelog, kept)])
    finally:
        await admin.close()


async def make_changelog_anew(site: Site) -> None:
    """Deletes the topic and makes it again."""
    spec = topics.BY_NAME[topics.STATE_CHANGELOG]
    admin = AIOKafkaAdminClient(bootstrap_servers=site.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([spec.name])

        async def gone() -> bool:
            return spec.name not in await admin.list_topics()

        await eventually(gone)
    finally:
        await admin.close()
    await create_topics(site.broker.bootstrap, [spec], PARTITIONS, 1, False, {})


async def lose_changelog(site: Site, how: str) -> None:
    """Everything comes to rest; then the changelog, and what was local, is gone."""
    await site.everybody()
    await site.faults(sms="throttled")
    async with under_load(site):
        await asyncio.sleep(3.0)
        await site.faults()
        await asyncio.sleep(3.0)
    finding = await site.judge()
    assert not finding.faults, finding.faults[:5]
    site.workers["decide"].kill()
    if how == "emptied":
        disks.harm(state_folder(site), "deleted", site.load.draw)
        await empty_changelog(site)
    else:
        await make_changelog_anew(site)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("emptied", marks=pytest.mark.row("8a", "changelog emptied, local state lost")),
        pytest.param("anew", marks=pytest.mark.row("8b", "changelog deleted and made anew")),
    ],
)
async def test_changelog_gone(site: Site, verdict: Any, how: str) -> None:
    await lose_changelog(site, how)
    async with under_load(site):
        before = await site.decided()
        refused = site.start("decide")
        status = await refused.ended(60)
        faults = [] if status not in (0, -9) else [f"decide ended with {status}"]
        if "no longer holds its whole state" not in refused.log():
            faults.append("decide did not say that its state is lost")
        if await site.decided() != before:
            faults.append("decide decided something without its state")
        since = time.monotonic()
        site.start("decide", FLOWSTATE_ENGINE__ON_STATE_LOSS="rebuild")
        await site.running_again(since)
        await asyncio.sleep(3.0)
    finding = await site.judge(replay=False)
    finding.faults += faults
    await verdict(finding, note="refused to decide, then rebuilt when told to")


@pytest.mark.row("8c", "changelog emptied under a worker that has its local state")
async def test_changelog_trimmed(site: Site, verdict: Any) -> None:
    await site.everybody()
    async with under_load(site):
        await asyncio.sleep(3.0)
        evidence = await site.evidence()
        await empty_changelog(site)
        await asyncio.sleep(2.0)
        site.workers["decide"].kill()
        since = time.monotonic()
        site.start("decide")
        await site.running_again(since)
    assert evidence.records[topics.STATE_CHANGELOG, 0], "there was nothing to delete"
    await verdict(await site.judge(replay=False))


# ------------------------------------------------------------------------------------- disks


@pytest.mark.row("9a", "the disk of the decide worker's state is full")
async def test_state_disk_full(site: Site, verdict: Any) -> None:
    folder = site.folder / "data" / "decide"
    with disks.small_disk(folder, STATE_DISK_MIB):
        await site.everybody()
        keeper = site.keep_running()
        async with under_load(site):
            await asyncio.sleep(1.0)
            ballast = disks.fill(folder)
            await eventually(lambda: not site.workers["decide"].alive, 120)
            await asyncio.sleep(FULL_S)
            ballast.unlink()
            await site.running_again(time.monotonic())
        finding = await site.judge()
        keeper.cancel()
        await compare_disk(site, finding)
        await verdict(finding)


@pytest.mark.kafka_disk_mib(400)
@pytest.mark.row("9b", "the broker's disk is full")
async def test_broker_disk_full(site: Site, verdict: Any) -> None:
    await site.everybody()
    keeper = site.keep_running()
    async with under_load(site):
        await asyncio.sleep(1.0)
        ballast = disks.fill(site.folder / "kafka")
        await eventually(lambda: not site.broker_alive, 120)
        await asyncio.sleep(FULL_S)
        ballast.unlink()
        site.broker.kill()
        await site.broker.start_async()
        await site.running_again(time.monotonic())
    finding = await site.judge()
    keeper.cancel()
    await verdict(finding)
