"""The role as a process: told to stop under load, it finishes what it has begun."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from streams import topics
from streams.api import keys
from streams.codec import Codec
from streams.local.processes import ManagedProcess
from tests.api.test_events import event, of_recipient
from tests.api.world import World, new_id
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("api")]


async def test_a_graceful_stop_answers_what_it_took(world: World, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    _, token = keys.create(keys_file, "test", ("produce",), 0)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    process = ManagedProcess(
        [sys.executable, "-c", "from streams.cli import main; main()", "worker", "api",
         "--config", str(world.folder / "flowstate.toml")],
        tmp_path / "api.log",
        {
            "FLOWSTATE_API__PORT": str(port),
            "FLOWSTATE_API__HOST": "127.0.0.1",
            "FLOWSTATE_API__KEYS_FILE": str(keys_file),
        },
    )  # fmt: skip
    recipient_id = new_id()
    accepted: list[str] = []
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

            async def is_ready() -> bool:
                assert process.returncode is None, process.output()
                try:
                    async with session.get(url + "/health/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            async def produce() -> None:
                while True:
                    sent = event(recipient_id=recipient_id)
                    try:
                        async with session.post(url + "/v1/events", json=sent) as answer:
                            if answer.status == 202:
                                accepted.append(json.loads(await answer.read())["event_id"])
                    except aiohttp.ClientError:
                        return

            await eventually(is_ready, 60)
            producers = [asyncio.create_task(produce()) for _ in range(8)]
            await eventually(lambda: len(accepted) > 100)
            process.signal(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*producers), 30)
            assert await asyncio.wait_for(process.wait(), 30) == 0, process.output()
    finally:
        process.kill()
    codec = Codec()
    found = await of_recipient(world, topics.EVENTS_NORMAL, recipient_id)
    there = [codec.decode("event", record.value)["event_id"] for record in found]
    assert set(accepted) <= set(there)
    assert len(there) == len(set(there))
    assert token not in process.output()
    assert recipient_id not in process.output()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is no address of its own")
def test_without_keys_a_ledger_worker_has_no_socket_but_on_loopback(world: World) -> None:
    port = int(world.urls["ledger"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    # Whoever listens on 0.0.0.0, as it was told to, answers here as well.
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), 5):
        pass
    said = world.processes["ledger"].output()
    assert said.count("flowstate keys create") == 1, said
