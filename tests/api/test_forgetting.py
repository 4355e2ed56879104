"""``flowstate forget`` from end to end: real workers, the command as it is run, and the logs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams import topics
from streams.commands.forget import Verdict, verify
from streams.partitioning import partition_for
from tests.api.test_preferences import event, path, register
from tests.api.world import PARTITIONS, Client, World, new_id
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("api")]
COMPACTED = (topics.PREFERENCES, topics.DESTINATION_CLAIMS, topics.STATE_CHANGELOG)
EAGER = {
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.0",
    "delete.retention.ms": "0",
    "max.compaction.lag.ms": "200",
}


async def run(world: World, *arguments: str) -> tuple[int, str]:
    """(exit status, output) of a ``flowstate`` command against the world."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", *arguments,
        "--config", str(world.folder / "flowstate.toml"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def notifications(client: Client, recipient_id: str) -> list[dict[str, Any]]:
    answer = await client.ask("GET", path(recipient_id, "notifications"))
    assert answer.status in (200, 503), answer.text
    found: list[dict[str, Any]] = answer.json.get("notifications", [])
    return found


async def test_everything_goes_and_what_comes_late_is_refused(client: Client, world: World) -> None:
    recipient_id, other = new_id("forgotten"), new_id()
    for name in (recipient_id, other):
        await register(client, name, f"{name}@before.example.com")
        await register(client, name, f"{name}@example.com")
        changed = await client.ask("PATCH", path(name), {"zone": "Europe/Lisbon"})
        assert changed.status == 200
        sent = await client.ask("POST", "/v1/events", event(name, category="later"))
        assert sent.status == 202
    await eventually(lambda: notifications(client, recipient_id))
    await eventually(lambda: notifications(client, other))
    await eventually(lambda: claims_in_state(world, recipient_id, 2))
    status, said = await run(world, "forget", recipient_id, "--verify")
    assert status == 1
    assert "profile, moving" in said, said
    assert "claims, in partition" in said, said

    status, said = await run(world, "forget", recipient_id)
    assert (status, said.startswith("forgotten")) == (0, True), said

    # Claims are in other partitions' files: those of the state are rewritten before it ends.
    assert holding(world.folder / "state" / "decide", recipient_id) == []
    await eventually(lambda: not holding(world.folder / "state" / "ledger", recipient_id))
    verdict = await verify(world.settings, recipient_id)
    assert verdict.tables_are_clean, verdict
    assert not [one for one in verdict.left if one.gone_by_ms is None], verdict

    assert await notifications(client, recipient_id) == []
    read = await client.ask("GET", path(recipient_id))
    assert read.json["preferences"]["zone"] == "UTC"
    found = await client.ask("GET", path(recipient_id, "destinations"))
    assert found.json["destinations"] == []
    assert len(await notifications(client, other)) == 1, "nobody else is touched"
    assert (await client.ask("GET", path(other, "destinations"))).json["destinations"]


async def claims_in_state(world: World, recipient_id: str, count: int) -> bool:
    """Whether the state has so many claims of theirs: also of the address that they gave up."""
    left = (await verify(world.settings, recipient_id)).left
    claims = [one.what for one in left if one.place == "state" and "claims" in one.what]
    return sum(int(what.partition(" ")[0]) for what in claims) == count


async def test_what_comes_late_is_refused_and_the_logs_come_clean(
    client: Client, world: World
) -> None:
    # What is told of the forgotten is on their partition, under a name that lives on one of them.
    home = partition_for(b"(forgotten)", PARTITIONS)
    names = (new_id("late") for _ in range(1_000))
    recipient_id = next(n for n in names if partition_for(n.encode(), PARTITIONS) == home)
    await register(client, recipient_id, f"{recipient_id}@example.com")
    status, said = await run(world, "forget", recipient_id)
    assert status == 0, said
    late = await client.ask("POST", "/v1/events", event(recipient_id))
    assert late.status == 202, "the API cannot know; the decision refuses it"
    await client.ask(
        "PUT",
        path(recipient_id, "destinations/mail"),
        {"kind": "email", "address": "late@example.com"},
    )
    await client.ask("PATCH", path(recipient_id), {"zone": "Europe/Lisbon"})

    async def is_refused() -> bool:
        answer = await client.ask("GET", path("(forgotten)", "notifications"))
        steps = [step for n in answer.json.get("notifications", []) for step in n["steps"]]
        return ("suppressed", "forgotten") in {(s["what"], s["reason"]) for s in steps}

    await eventually(is_refused)
    verdict = await verify(world.settings, recipient_id)
    assert verdict.tables_are_clean, verdict
    places = {one.place for one in verdict.left}
    assert topics.PREFERENCES in places, f"the logs still have it, and it is said: {verdict}"
    assert all(one.gone_by_ms for one in verdict.left), verdict

    await time_passes(world, recipient_id)
    status, said = await run(world, "forget", recipient_id, "--verify")
    assert (status, "nothing is left" in said) == (0, True), said

    status, said = await run(world, "forget", recipient_id, "--lift")
    assert status == 0, said
    await register(client, recipient_id)


def holding(folder: Path, text: str) -> list[str]:
    """Names of files with a text in them, of databases that are open and go on.

    Not the MANIFEST: it names the first and last key of each file, until a worker is started again.
    """
    found = []
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            is_list = file.name.startswith("MANIFEST")
            if file.is_file() and not is_list and text.encode() in file.read_bytes():
                found.append(str(file.relative_to(folder)))
    return found


async def time_passes(world: World, recipient_id: str) -> None:
    """Retention and compaction do their work at once, and Kafka does it."""
    bootstrap = world.settings.kafka.bootstrap
    home = partition_for(recipient_id.encode(), PARTITIONS)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, {**EAGER, "cleanup.policy": "compact"})
             for name in COMPACTED]
        )  # fmt: skip
        aged = [s.name for s in topics.SPECS if s.cleanup == "delete" and s.name != topics.ERASURES]
        await admin.delete_records(
            {TopicPartition(name, home): RecordsToDelete(-1) for name in aged}
        )

        async def is_gone() -> bool:
            # A segment is compacted when a later one has been begun: something has to be written.
            for name in COMPACTED:
                for number in range(PARTITIONS):
                    filler = new_id("filler").encode()
                    await producer.send_and_wait(name, None, filler, partition=number)
            verdict: Verdict = await verify(world.settings, recipient_id)
            await asyncio.sleep(0.5)
            return not verdict.left

        await eventually(is_gone, 150)
    finally:
        await producer.stop()
        await admin.close()


async def test_without_a_key_nothing_is_forgotten(client: Client, world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "forget", "ann",
        "--config", str(world.folder / "flowstate.toml"),
        env={"PATH": "", "FLOWSTATE_PRIVACY__HASH_KEY": ""},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"privacy.hash_key is not set" in said
