"""Real ledger workers on a real broker: killed, moved, asked about each other's partitions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import unused_port

from streams import topics
from streams.engine.settings import EngineSettings
from streams.engine.topics_admin import create_topics
from streams.ledger.client import LedgerClient, LedgerError
from streams.ledger.documents import Totals
from streams.ledger.explain import explain
from streams.ledger.reconcile import reconcile
from streams.ledger.settings import ReconcileSettings
from streams.local.broker import EmbeddedBroker
from tests.eventually import eventually
from tests.ledger.kafka_books import PARTITIONS, KafkaBooks

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("ledger-broker"),
]
ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0


class Worker:
    """A ledger worker process; its log is in a file."""

    def __init__(self, name: str, bootstrap: str, folder: Path) -> None:
        # The same after a restart, as in production: Faust refuses a member that comes back under
        # its name with another address.
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._name, self._bootstrap, self._folder = name, bootstrap, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = folder / f"{name}.log"

    def start(self) -> None:
        engine = EngineSettings(
            bootstrap=self._bootstrap,
            partitions=PARTITIONS,
            data_folder=str(self._folder / self._name),
            worker_name=self._name,
            web_port=self.port,
            session_timeout_ms=6_000,
            heartbeat_ms=1_000,
        )
        arguments = msgspec.json.encode(engine).decode()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.agents.ledger_worker", arguments],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> int:
        process = self._process
        assert process is not None
        process.terminate()
        await eventually(lambda: process.poll() is not None, DEADLINE_S)
        return int(process.returncode)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own, because the ledger reads topics by their real names."""
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka"), port=0) as broker:
        asyncio.run(create_topics(broker.bootstrap, topics.SPECS, PARTITIONS, 1, True))
        yield broker.bootstrap


@pytest.fixture
async def workers(cluster: str, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    made = [Worker(name, cluster, tmp_path) for name in ("a", "b")]
    yield made
    for worker in made:
        if worker._process is not None and worker._process.poll() is None:
            worker.kill()
        if worker.log_path.exists():
            print(worker.log_path.read_text(errors="replace")[-4000:])


async def complete_totals(url: str, verdicts: int) -> Totals:
    """The totals, once they are complete and have counted so many verdicts."""

    async def look() -> Totals | None:
        try:
            async with LedgerClient(url, unavailable_s_max=1) as client:
                totals = await client.totals()
        except LedgerError:
            return None
        beside = ("answer:", "event")
        counted = sum(c.count for c in totals.counts if not c.what.startswith(beside))
        assert counted <= verdicts, totals
        return totals if totals.is_complete and counted == verdicts else None

    found = await eventually(look, DEADLINE_S)
    assert isinstance(found, Totals)
    return found


async def test_killed_moved_and_asked(cluster: str, workers: list[Worker], tmp_path: Path) -> None:
    first, second = workers
    async with KafkaBooks(cluster, tmp_path / "received.jsonl") as books:
        await books.append(1_000)
        first.start()
        await complete_totals(first.url, 1_000)

        for _ in range(3):
            writing = asyncio.create_task(books.append(2_000))
            await asyncio.sleep(0)
            first.kill()
            first.start()
            await writing
        await complete_totals(first.url, 7_000)

        second.start()
        await eventually(lambda: _owns(second, PARTITIONS // 2), DEADLINE_S)
        await books.append(1_000)
        for worker in workers:
            totals = await complete_totals(worker.url, 8_000)
            assert {state.repeats for state in totals.partitions} == {0}
        for worker in workers:
            async with LedgerClient(worker.url) as client:
                for number in range(8):
                    said = await explain(client, f"member-{number}", f"e{number}")
                    assert len(said.notifications) == 1

        async with LedgerClient(first.url) as client:
            assert client._session is not None
            async with client._session.get(f"{first.url}/metrics") as answer:
                shown = await answer.text()
        assert 'flowstate_ledger_records_total{topic="decisions"}' in shown

        second.kill()
        await books.append(500)
        await complete_totals(first.url, 8_500)
        settings = ReconcileSettings()
        report = await reconcile(cluster, settings, [books.received], first.url)
        assert report.problems == []
        assert report.ledger == f"agrees on {8_500 + 2_125:,} verdicts and answers"
        assert await first.stop() == 0


async def _owns(worker: Worker, partitions: int) -> bool:
    """Whether the worker answers for so many partitions by itself."""
    async with LedgerClient(worker.url, unavailable_s_max=0) as client:
        assert client._session is not None
        client._session.headers["Flowstate-Hop"] = "1"
        try:
            return len((await client.totals()).partitions) == partitions
        except LedgerError:
            return False
