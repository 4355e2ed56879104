"""The ledger's runner against a context that plays the engine: exact, resumable, refusing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rocksdict import Cache

from streams import topics
from streams.agents.ledger import TOPICS, LedgerRunner, PositionBeyondEndError, ledger_role
from streams.engine.api import Record, TemporarilyUnavailable
from streams.engine.roles import Committed
from streams.engine.settings import EngineSettings
from streams.ledger.documents import Count
from streams.ledger.rows import EVENT
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from streams.privacy import PrivacySettings, Pseudonyms
from streams.web.ledger_pages import LedgerWeb
from tests.eventually import eventually
from tests.ledger.build import (
    CODEC,
    T0,
    FakeRecord,
    KeptLooks,
    decision,
    entry,
    outcome,
    receipt,
    sent,
)

PRIVACY = PrivacySettings(hash_key="a key of these tests alone")
SETTINGS = LedgerSettings(take_timeout_ms=20, commit_ms=0, sync_ms=0, retention_check_ms=0)


class FakeContext:
    """Logs of three topics, in memory."""

    def __init__(self, folder: Path) -> None:
        self.partition = 3
        self.settings = EngineSettings(
            bootstrap="nowhere:1", data_folder=str(folder), partitions=16, web_port=6066
        )
        self.logs: dict[str, list[FakeRecord]] = {topic: [] for topic in TOPICS}
        self.beginnings = dict.fromkeys(TOPICS, 0)
        self.positions: dict[str, int] = {}
        self.commits: list[dict[str, Committed]] = []
        self.progressed = 0

    def append(self, *records: FakeRecord) -> None:
        for record in records:
            log = self.logs[record.topic]
            log.append(FakeRecord(record.topic, len(log), record.value, timestamp=record.timestamp))

    def now_ms(self) -> int:
        return 0

    async def take(self, topics: Sequence[str], records_max: int, timeout_ms: int) -> list[Record]:
        for name in topics:
            at = self.positions[name]
            if found := self.logs[name][at : at + records_max]:
                self.positions[name] = at + len(found)
                return list(found)
        await asyncio.sleep(timeout_ms / 1000)
        return []

    def seek(self, positions: Mapping[str, int]) -> None:
        self.positions.update(positions)

    def position(self, topic: str) -> int:
        return self.positions[topic]

    async def end_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        return {name: len(self.logs[name]) for name in topics}

    async def beginning_offsets(self, topics: Sequence[str]) -> dict[str, int]:
        return {name: self.beginnings[name] for name in topics}

    async def committed(self) -> dict[str, Committed]:
        return {}

    async def commit(self, positions: Mapping[str, Committed]) -> None:
        self.commits.append(dict(positions))

    def client_settings(self) -> dict[str, Any]:
        return {}

    def crash_point(self, name: str) -> None:
        pass

    def progress(self) -> None:
        self.progressed += 1


Start = Callable[..., Awaitable[LedgerRunner]]


@pytest.fixture
def context(tmp_path: Path) -> FakeContext:
    return FakeContext(tmp_path)


@pytest.fixture
def web(context: FakeContext) -> LedgerWeb:
    return LedgerWeb(SETTINGS, context.settings, KeptLooks())


@pytest.fixture
async def start(context: FakeContext, web: LedgerWeb) -> AsyncIterator[Start]:
    running: list[tuple[LedgerRunner, asyncio.Task[None]]] = []

    async def begin(codec: Any = CODEC) -> LedgerRunner:
        cache = Cache(1 << 20)
        runner = LedgerRunner(3, context, SETTINGS, codec, web, cache, PRIVACY)
        await runner.start()
        running.append((runner, asyncio.create_task(runner.run())))
        return runner

    yield begin
    for runner, task in running:
        await runner.stop(graceful=True)
        await task


def counts_of(web: LedgerWeb) -> list[Count]:
    return web._mine[3][0].totals()[1]


def totals_of(web: LedgerWeb) -> dict[str, int]:
    queries, _ = web._mine[3]
    return {c.what: c.count for c in queries.totals()[1] if c.what != EVENT}


ROUTED = decision(0, entry("delivering", deliveries=(sent(),), at=0))


async def test_files_what_is_there_and_what_comes(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    context.append(ROUTED, outcome(0))
    runner = await start()
    assert not runner._is_ready()
    await eventually(web._mine[3][1])
    assert totals_of(web) == {"delivering": 1, "answer:accepted": 1}
    assert [(c.reason, c.count) for c in counts_of(web) if c.what == EVENT] == [("delivering", 1)]
    context.append(receipt(0))
    await eventually(lambda: totals_of(web).get("receipt:seen"))
    assert context.progressed >= 2


async def test_goes_on_from_its_own_offsets_and_counts_nothing_twice(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    context.append(ROUTED, outcome(0))
    runner = await start()
    await eventually(lambda: len(totals_of(web)) == 2)
    await runner.stop(graceful=True)
    context.positions.clear()
    context.append(decision(1, entry("held", "e2")))
    await start()
    assert context.positions[topics.DECISIONS] == 1, "not the group's offsets, which say nothing"
    await eventually(lambda: "held" in totals_of(web))
    assert totals_of(web) == {"delivering": 1, "answer:accepted": 1, "held": 1}


async def test_commits_say_where_it_answers(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    await start()
    assert context.commits[0][topics.DECISIONS] == Committed(0, '{"url":"http://127.0.0.1:6066"}')
    context.append(ROUTED)
    await eventually(lambda: context.commits[-1][topics.DECISIONS].offset == 1)


async def test_what_cannot_be_read_is_passed_by(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    for topic in TOPICS:
        context.append(FakeRecord(topic, 0, b"garbage"), FakeRecord(topic, 0, None))
    context.append(ROUTED)
    await start()
    await eventually(lambda: totals_of(web) == {"delivering": 1})
    await eventually(lambda: context.positions == {t: len(context.logs[t]) for t in TOPICS})


async def test_a_log_that_is_shorter_than_what_was_read_is_refused(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    context.append(ROUTED)
    runner = await start()
    await eventually(lambda: totals_of(web))
    await runner.stop(graceful=True)
    context.logs[topics.DECISIONS].clear()
    refused = LedgerRunner(3, context, SETTINGS, CODEC, web, Cache(1 << 20))
    with pytest.raises(PositionBeyondEndError, match="made anew"):
        await refused.start()
    await refused.stop(graceful=False)
    LedgerStore(Path(context.settings.data_folder) / "ledger", 3, SETTINGS).close()


async def test_what_the_log_lost_is_counted(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    context.append(ROUTED)
    runner = await start()
    await eventually(lambda: totals_of(web))
    await runner.stop(graceful=True)
    context.append(*[decision(n, entry("held", f"e{n}")) for n in range(1, 6)])
    context.beginnings[topics.DECISIONS] = 4
    await start()
    await eventually(lambda: totals_of(web).get("held") == 2)
    assert web._mine[3][0].totals()[0].lost_records == 3


async def test_who_is_forgotten_is_not_kept_again_whatever_comes_or_is_read_again(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    context.append(ROUTED, outcome(0), decision(0, entry("held", "e9"), recipient_id="bob"))
    runner = await start()
    await eventually(lambda: totals_of(web).get("held"))
    context.append(erasure("ann"), erasure("zoe", names=Pseudonyms(PrivacySettings())))
    queries = web._mine[3][0]
    await eventually(lambda: not queries.timeline("ann", None, 5).items)
    assert len(queries.timeline("bob", None, 5).items) == 1
    context.append(receipt(0), decision(2, entry("held", "late")))
    await eventually(lambda: totals_of(web).get("held") == 2 and totals_of(web)["receipt:seen"])
    assert not queries.timeline("ann", None, 5).items
    await runner.stop(graceful=True)

    folder = Path(context.settings.data_folder) / "ledger" / "3"
    shutil.rmtree(folder)
    await start()
    await eventually(web._mine[3][1])
    assert not web._mine[3][0].timeline("ann", None, 5).items
    assert totals_of(web)["held"] == 2, "counted, and not kept"
    context.append(erasure("ann", at_ms=T0 + 1, lifted=True))
    context.append(decision(9, entry("held", "back"), at_ms=T0 + 2))
    await eventually(lambda: web._mine[3][0].timeline("ann", None, 5).items)


class Hours:
    """The topic of counters by hour; refuses once."""

    def __init__(self) -> None:
        self.kept: dict[bytes, int] = {}
        self.refused = 0

    async def read(self, partition: int) -> dict[bytes, int]:
        return dict(self.kept)

    async def write(self, partition: int, counters: Mapping[bytes, int | None]) -> bool:
        if not self.refused:
            self.refused += 1
            return False
        self.kept.update({name: count for name, count in counters.items() if count is not None})
        return True


async def test_reasons_over_time_outlive_the_disk(context: FakeContext, web: LedgerWeb) -> None:
    hours = Hours()
    settings = msgspec.structs.replace(SETTINGS, hours_log_ms=0)

    async def living() -> tuple[LedgerRunner, asyncio.Task[None]]:
        cache = Cache(1 << 20)
        runner = LedgerRunner(3, context, settings, CODEC, web, cache, PRIVACY, hours=hours)
        await runner.start()
        return runner, asyncio.create_task(runner.run())

    context.append(*[decision(n, entry("held", f"e{n}")) for n in range(5)])
    runner, task = await living()
    await eventually(lambda: 5 in hours.kept.values())
    await runner.stop(graceful=True)
    await task
    shutil.rmtree(Path(context.settings.data_folder) / "ledger" / "3")
    context.beginnings[topics.DECISIONS] = 4
    context.positions.clear()
    runner, task = await living()
    await eventually(lambda: totals_of(web).get("held") == 1)
    counts = web._mine[3][0].reasons(24)
    assert [one.count for one in counts if one.what == "held"] == [5]
    await runner.stop(graceful=True)
    await task


def erasure(
    name: str, at_ms: int = T0, lifted: bool = False, names: Pseudonyms | None = None
) -> FakeRecord:
    names = names or Pseudonyms(PRIVACY)
    fields = {
        "recipient_hash": names.of(name).hex(),
        "sealed": names.seal(name),
        "forgotten_at_ms": at_ms,
        "lifted": lifted,
    }
    return FakeRecord(topics.ERASURES, 0, CODEC.encode("erasure", fields))


async def test_waits_for_the_registry_and_loses_nothing(
    context: FakeContext, web: LedgerWeb, start: Start
) -> None:
    class Away:
        answers = 0

        async def prepare(self, values: Any) -> None:
            self.answers += 1
            if self.answers < 3:
                raise TemporarilyUnavailable("the registry is away")

        def decode(self, name: str, value: bytes) -> dict[str, Any]:
            return CODEC.decode(name, value)

    context.append(receipt(0))
    codec = Away()
    await start(codec)
    await eventually(lambda: totals_of(web) == {"receipt:seen": 1})
    assert codec.answers == 3


async def test_a_write_that_fails_ends_the_run(context: FakeContext, web: LedgerWeb) -> None:
    runner = LedgerRunner(3, context, SETTINGS, CODEC, web, Cache(1 << 20))
    await runner.start()
    assert runner._store is not None
    runner._store.write = _corrupted  # type: ignore[method-assign, assignment]
    context.append(ROUTED)
    with pytest.raises(OSError, match="Corruption"):
        await runner.run()
    assert (Path(context.settings.data_folder) / "ledger" / "3" / "DAMAGED").exists()
    await runner.stop(graceful=False)


def _corrupted(*_: Any) -> None:
    raise OSError("Corruption: block checksum mismatch")


def test_the_role_reads_its_topics(tmp_path: Path) -> None:
    role = ledger_role(SETTINGS, FakeContext(tmp_path).settings, CODEC, PrivacySettings())
    assert role.name == "ledger"
    assert role.topics == TOPICS
    assert role.table is None
