"""``flowstate explain --what-if`` against running workers: here, for it needs the API's world."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.cli import main
from tests.api.test_events import event
from tests.api.world import Client, World, new_id
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("api")]
OTHER = '[categories.message]\nchannels = ["email"]\n[categories.security]\nmandatory = true\n'


async def asked(world: World, *arguments: str) -> Result:
    """The command, in a thread: it has a loop of its own."""
    command = [
        "explain", *arguments, "--config", str(world.folder / "flowstate.toml"), "--ledger",
        world.urls["ledger"],
    ]  # fmt: skip
    return await asyncio.to_thread(CliRunner().invoke, main, command)


async def test_the_differences_of_another_catalogue(world: World, client: Client) -> None:
    recipient_id = new_id()
    path = f"/v1/recipients/{recipient_id}/destinations/phone"
    answer = await client.ask("PUT", path, {"kind": "fcm", "address": f"token-{recipient_id}"})
    assert answer.status in (200, 201, 202), answer.body
    sent: list[dict[str, Any]] = [
        event(recipient_id=recipient_id, event_id=f"{recipient_id}-{name}", category=category)
        for name, category in (("a", "message"), ("b", "message"), ("c", "security"))
    ]
    for one in sent:
        assert (await client.ask("POST", "/v1/events", one)).status == 202
    file = world.folder / "other.toml"
    file.write_text(OTHER)

    async def found() -> dict[str, Any] | None:
        result = await asked(world, recipient_id, "--what-if", str(file), "--json")
        document: dict[str, Any] | None = (
            json.loads(result.output) if result.exit_code == 0 else None
        )
        return document if document and len(document["events"]) == 3 else None

    document = await eventually(found, 60)
    fates = {one["event_id"][-1]: one for one in document["events"]}
    for name in "abc":
        assert fates[name]["is_reproduced"], fates[name]
        assert fates[name]["today"]["what"] == "sent"
    assert [fates[name]["differs"] for name in "abc"] == [True, True, False]
    assert fates["a"]["other"]["reason"] == "no_destination"
    assert document["recorded_versions"] == [world.settings.policy.version]

    said = await asked(world, recipient_id, f"{recipient_id}-a", "--what-if", str(file))
    assert said.exit_code == 0
    assert "1 of 1 events would have gone another way" in said.output
    assert "What this cannot know:" in said.output
    assert f"token-{recipient_id}" not in said.output + json.dumps(document)


async def test_mistakes_say_what_to_do(world: World, client: Client) -> None:
    file = world.folder / "wrong.toml"
    file.write_text("[categories.message]\nchanels = []\n")
    said = await asked(world, "nobody", "--what-if", str(file))
    assert said.exit_code == 1
    assert 'did you mean "channels"' in said.output
    file.write_text(OTHER)
    said = await asked(world, new_id(), "--what-if", str(file))
    assert said.exit_code == 1
    assert "can be decided again" in said.output
