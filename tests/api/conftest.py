"""The system that the API's tests share; one for all of them, on one worker of the test run."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from streams import topics
from streams.engine.topics_admin import create_topics
from streams.local.broker import EmbeddedBroker
from tests.api.world import PARTITIONS, Client, World, running_api, start_world
from tests.eventually import eventually_blocking


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Kafka, a decide worker and a ledger worker, all ready."""
    folder = tmp_path_factory.mktemp("api-world")
    broker = EmbeddedBroker(folder / "kafka", port=0)
    broker.start()
    asyncio.run(create_topics(broker.bootstrap, topics.SPECS, PARTITIONS, 1, False))
    world = start_world(folder, broker.bootstrap)
    try:
        for role in world.urls:
            eventually_blocking(partial(_ready, world, role), 60)
        yield world
    finally:
        for process in world.processes.values():
            process.kill()
        broker.stop()


def _ready(world: World, role: str) -> bool:
    assert world.processes[role].returncode is None, world.logs()
    try:
        with urllib.request.urlopen(world.urls[role] + "/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """An API without keys, with everything behind it running."""
    async with running_api(world.settings, world.folder) as running:
        yield running
