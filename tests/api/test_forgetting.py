"""``flowstate forget`` from end to end: real workers, the command as it is run, and the logs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_preferences import event, path, register
from tests.api.world import Client, World, new_id
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("api")]


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
        await register(client, name, f"{name}@example.com")
        changed = await client.ask("PATCH", path(name), {"zone": "Europe/Lisbon"})
        assert changed.status == 200
        sent = await client.ask("POST", "/v1/events", event(name, category="later"))
        assert sent.status == 202
    await eventually(lambda: notifications(client, recipient_id))
    await eventually(lambda: notifications(client, other))
    status, said = await run(world, "forget", recipient_id, "--verify")
    assert status == 1
    assert "profile, activity, waiting" in said, said

    status, said = await run(world, "forget", recipient_id)
    assert (status, said.startswith("forgotten")) == (0, True), said

    await eventually(lambda: recipient_id.encode() not in files(world.folder / "state" / "ledger"))

    assert await notifications(client, recipient_id) == []
    read = await client.ask("GET", path(recipient_id))
    assert read.json["preferences"]["zone"] == "UTC"
    found = await client.ask("GET", path(recipient_id, "destinations"))
    assert found.json["destinations"] == []
    assert len(await notifications(client, other)) == 1, "nobody else is touched"
    assert (await client.ask("GET", path(other, "destinations"))).json["destinations"]


def files(folder: Path) -> bytes:
    found = b""
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the databases are open, and go on
            found += file.read_bytes() if file.is_file() else b""
    return found


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
