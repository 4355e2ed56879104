"""Fixtures that all tests share: a real broker, and topics of one's own on it.

The broker is started once for a whole run. Under xdist the first worker that needs it starts it,
the others find its address in a file; the one that started it ends it, once no other worker that
uses it is alive. (A broker dies with the process that started it, so nothing else has to.)
"""

import asyncio
import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.local.broker import EmbeddedBroker
from tests.eventually import eventually, eventually_blocking

OTHER_WORKERS_DEADLINE_S = 3600.0

# A machine can be busy: how long one example takes says nothing about what is tested.
hypothesis.settings.register_profile("flowstate", deadline=None)
hypothesis.settings.load_profile("flowstate")


@dataclass(frozen=True)
class RunningBroker:
    """The broker of this test run. `data_folder` has its logs."""

    bootstrap: str
    data_folder: Path


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A real Kafka, shared by all tests of the run: use `kafka_topics` for topics of your own."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # a worker's own base folder is inside the one of the run
    folder = folder / "broker"
    users = folder / "users"
    users.mkdir(parents=True, exist_ok=True)
    address, me = folder / "address", users / str(os.getpid())
    started = None
    with _locked(folder):
        me.touch()
        if not address.exists():
            started = EmbeddedBroker(folder / "kafka", port=0)
            started.start()
            address.write_text(started.bootstrap)
    yield RunningBroker(address.read_text(), folder / "kafka")
    me.unlink()
    if started:
        eventually_blocking(lambda: _retire(folder, users, address), OTHER_WORKERS_DEADLINE_S)
        started.stop()


def _retire(folder: Path, users: Path, address: Path) -> bool:
    """Under the lock: if nobody uses the broker, take its address away, so that nobody will."""
    with _locked(folder):
        if any(psutil.pid_exists(int(user.name)) for user in users.iterdir()):
            return False
        address.unlink()
        return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class KafkaTopics:
    """Makes topics whose names no other test has, and removes them at the end of the test."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin
        self._names: list[str] = []

    async def create(
        self, name: str = "topic", partitions: int = 1, config: dict[str, str] | None = None
    ) -> str:
        """The full name of a new topic, each of whose partitions has its leader."""
        full_name = f"{name}-{uuid.uuid4().hex[:12]}"
        topic = NewTopic(full_name, partitions, replication_factor=1, topic_configs=config or {})
        response = await self._admin.create_topics([topic])
        errors = [error for error in response.topic_errors if error[1]]
        assert not errors, errors
        self._names.append(full_name)
        await eventually(lambda: self._leaders(full_name, partitions))
        return full_name

    async def _leaders(self, name: str, partitions: int) -> bool:
        (topic,) = await self._admin.describe_topics([name])
        led = [each for each in topic["partitions"] if each["leader"] >= 0]
        return len(led) == partitions

    async def remove_all(self) -> None:
        if self._names:
            await self._admin.delete_topics(self._names)


@pytest.fixture
async def kafka_topics(broker: RunningBroker) -> AsyncIterator[KafkaTopics]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    topics = KafkaTopics(admin)
    try:
        yield topics
        await asyncio.wait_for(topics.remove_all(), timeout=30)
    finally:
        await admin.close()
