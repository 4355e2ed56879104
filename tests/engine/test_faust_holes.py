"""The holes in Faust and aiokafka that the engine works around, shown to be still there.

Each test passes while the hole is open. When an upgrade closes one, its test fails and says which
workaround can go. Where the hole is a default, the test holds our setting against it.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from faust.app import router
from faust.stores import rocksdb
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport import producer as faust_producer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from intervaltree import IntervalTree  # type: ignore[import-untyped]

from streams.engine.faust_app import EngineApp
from streams.engine.roles import Lane, RoleSpec
from streams.engine.settings import EngineSettings
from streams.tables import TableSpec

PARTITION = TP("events", 0)


@pytest.fixture
async def app() -> faust.App:
    return faust.App("holes", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)


class Acks:
    """As much of a Faust consumer as ``_new_offset`` looks at."""

    def __init__(self, committed: int | None, acked: list[int]) -> None:
        self._committed_offset = {PARTITION: committed}
        self._acked = {PARTITION: acked}
        self._acked_index: Any = defaultdict(set)
        self._gap: Any = defaultdict(IntervalTree)

    def new_offset(self) -> int | None:
        return faust_consumer.Consumer._new_offset(self, PARTITION)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("committed", "acked", "commits"),
    [(31, [32], 33), (0, [5], 6), (None, [5], 6)],
)
def test_a_commit_skips_records_that_were_never_acked(
    committed: int | None, acked: list[int], commits: int
) -> None:
    """31 committed means that 31 is next; acking 32 alone must not commit 33.

    Workaround: Faust never commits (``GroupConsumer``); positions are the engine's own.
    """
    assert Acks(committed, acked).new_offset() == commits


async def test_flush_returns_while_messages_wait(app: faust.App) -> None:
    """``flush`` before a commit gives up after 100 ms without progress, and counts neither what is
    being sent nor what failed.

    Workaround: every acknowledgement is awaited before the commit (``PartitionProducer``).
    """

    class StuckBuffer(faust_producer.ProducerBuffer):
        async def _send_pending(self, fut: Any) -> None:
            await asyncio.Event().wait()

    buffer: Any = StuckBuffer()
    buffer.app = app
    await buffer.start()
    buffer.pending.put_nowait("first")
    buffer.pending.put_nowait("second")
    await asyncio.wait_for(buffer.flush(), timeout=5)
    assert buffer.size == 1
    buffer.pending.get_nowait()
    await buffer.stop()


async def test_an_exception_acknowledges_its_record(app: faust.App) -> None:
    """A raise in an agent's loop acks the record that caused it: it is never seen again.

    Workaround: nothing is acked; a step's error reaches its runner and ends the process.
    """
    app.flow_control.resume()
    app.consumer_generation_id = 0
    channel: Any = app.channel()
    iterator = channel.clone(is_iterator=True)
    message: Any = faust.types.Message(
        "t", 0, 0, 0.0, 0, None, b"k", b"poison", None, generation_id=0
    )
    message.incref()
    await channel.put(app.create_event(b"k", b"poison", {}, message))
    # What a raise in the loop's body does: the abandoned generator is closed.
    generator: Any = aiter(app.stream(iterator))
    assert await anext(generator) == b"poison"
    assert not message.acked
    await generator.aclose()
    assert message.acked


async def test_a_rebalance_drops_what_is_queued(app: faust.App) -> None:
    """Resuming flow clears the queues of channels. Workaround: ``StepChannel`` has its own flow."""
    queue = app.channel().queue
    queue.put_nowait("batch")
    app.flow_control.resume()
    assert queue.empty()


def test_the_recovery_waits_for_the_record_before_the_high_water_mark() -> None:
    """After a transaction that is a marker, which never comes. Workaround: ``Restorer``."""
    source = inspect.getsource(Recovery._build_highwaters)
    assert "value - 1 if value is not None" in source


def test_the_recovery_swallows_errors() -> None:
    """Workaround: an error in ``Restorer`` ends the process."""
    source = inspect.getsource(Recovery._slurp_changelogs.fun)
    assert "except Exception as ex" in source


def test_consumers_read_uncommitted_records() -> None:
    """Unless Faust's own exactly-once is on, which is unusable. Workaround: ``SharedReader``."""
    source = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert 'isolation_level: str = "read_uncommitted"' in source
    assert "fetch_max_wait_ms=1500" in source


def test_without_tables_another_assignor_is_used() -> None:
    """Workaround: ``GroupThread`` always takes Faust's."""
    source = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "else RoundRobinPartitionAssignor" in source


def test_a_closed_store_keeps_its_lock() -> None:
    """Faust's driver never closes a database. Workaround: ``PartitionStore.close``."""
    source = inspect.getsource(rocksdb.Store)
    assert "# db.close()" in source or "db.close()" not in source


def test_every_database_has_a_cache_of_its_own() -> None:
    """2 GiB each. Workaround: ``SharedMemory``."""
    assert rocksdb.DEFAULT_BLOCK_CACHE_SIZE == 2 * 1024**3


async def test_every_worker_owns_every_partition_of_a_global_table(app: faust.App) -> None:
    """Workaround: no GlobalTable; preferences are in the co-partitioned state."""
    table = app.GlobalTable("everywhere", partitions=1)
    assert table.is_global
    assignor: Any = app.assignor
    source = inspect.getsource(assignor._global_table_standby_assignments)
    assert "assignment.actives[changelog_topic_name] = list(all_partitions)" in source


async def test_a_key_is_routed_by_its_json(app: faust.App) -> None:
    """``"u1"`` is hashed with its quotes unless the key type is bytes, as ours is."""
    table = app.Table("routed", partitions=1)
    assert router.Router._get_serialized_key(table, "u1") == b'"u1"'
    raw = app.Table("raw", partitions=1, key_type=bytes)
    assert router.Router._get_serialized_key(raw, b"u1") == b"u1"


async def test_starting_looks_at_settings_that_lose_time(app: faust.App) -> None:
    """Defaults that an outage turns into minutes; ``EngineApp`` sets each."""
    assert app.conf.producer_request_timeout >= 1200
    assert app.conf.worker_redirect_stdouts
    assert app.conf.stream_buffer_maxsize == 4096


async def test_a_debug_record_is_built_for_every_message() -> None:
    """Workaround: ``quiet_client_logs`` raises the level of the loggers, which is asked first."""
    from streams.engine.client_logs import quiet_client_logs

    quiet_client_logs()
    assert not logging.getLogger("aiokafka").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("faust").isEnabledFor(logging.INFO)


def test_a_buffered_partition_stops_fetches_from_its_node() -> None:
    """For ``prefetch_backoff``, 100 ms. Workaround: ``SharedReader`` sets it to 0."""
    assert inspect.signature(Fetcher).parameters["prefetch_backoff"].default == 0.1
    source = inspect.getsource(Fetcher._get_actions_per_node)
    assert "if node_id in backoff_by_nodes" in source


async def test_lanes_starve_in_fetched_records() -> None:
    """Buffers are drained in the order in which they came. Workaround: ``SharedReader.drain``."""

    class Buffer:
        def getall(self, records_max: int) -> list[str]:
            return ["bulk"] * records_max

        def has_more(self) -> bool:
            return True

    class Subscriptions:
        reassignment_in_progress = False

    fetcher = Fetcher.__new__(Fetcher)
    fetcher._subscriptions = Subscriptions()
    bulk, critical = TopicPartition("bulk", 0), TopicPartition("critical", 0)
    fetcher._records = {bulk: _as_fetch_result(Buffer()), critical: _as_fetch_result(Buffer())}
    for _ in range(3):
        drained = await fetcher.fetched_records((), 0, max_records=10)
        assert list(drained) == [bulk]


def _as_fetch_result(buffer: Any) -> Any:
    from aiokafka.consumer.fetcher import FetchResult

    result = FetchResult.__new__(FetchResult)
    result.getall = buffer.getall
    result.has_more = buffer.has_more
    return result


async def test_our_app_closes_them(tmp_path: Path) -> None:
    """The settings and overrides that the tests above name, on a real ``EngineApp``."""
    settings = EngineSettings(bootstrap="127.0.0.1:1", data_folder=str(tmp_path), web_port=6_066)
    role = RoleSpec(
        name="decide",
        lanes=(Lane("control", ("preferences",), 10),),
        runner_factory=lambda *_: None,  # type: ignore[arg-type]
        table=TableSpec("state", "flowstate-decide-state-changelog", "decide", ()),
    )
    app: Any = EngineApp(role, settings)
    conf = app.conf
    assert conf.id == "flowstate-decide"
    assert conf.producer_request_timeout == 30
    assert (conf.broker_session_timeout, conf.broker_heartbeat_interval) == (6, 1)
    assert not conf.worker_redirect_stdouts
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert str(conf.canonical_url) == "http://127.0.0.1:6066"
    assert app.router._get_serialized_key(app.tables["state"], b"u1") == b"u1"
    assert (
        app.tables["state"].changelog_topic.get_topic_name() == "flowstate-decide-state-changelog"
    )
    assert not list(itertools.chain(app.boot_strategy.kafka_producer()))
    assert app.consumer._get_active_partitions() == set()


async def test_a_free_port_is_taken_when_none_is_named(tmp_path: Path) -> None:
    settings = EngineSettings(bootstrap="127.0.0.1:1", data_folder=str(tmp_path), web_port=0)
    role = RoleSpec(
        name="deliver",
        lanes=(Lane("all", ("deliveries",), 10),),
        runner_factory=lambda *_: None,  # type: ignore[arg-type]
    )
    conf = EngineApp(role, settings).conf
    assert conf.web_port > 0
    assert str(conf.canonical_url) == f"http://127.0.0.1:{conf.web_port}"
