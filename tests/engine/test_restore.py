"""Local state: lost, damaged, ahead of its log, behind its log; it always comes back the same."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from msgspec.structs import replace

from streams.engine import fence
from streams.engine.clock import wall_ms
from streams.engine.restore import COPY_AGE_HOURS_MAX, HOUR_MS
from streams.engine.store import Followed, PartitionStore, SharedMemory
from streams.engine.topics_admin import DELETED_KEPT_HOURS
from streams.tables import FENCE
from tests.engine.harness import Bench
from tests.engine.test_ownership import restored
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]

ONE = {"partitions": 1}


def store_of(bench: Bench, name: str = "a", partition: int = 0) -> PartitionStore:
    """A partition's store, opened by the test while no worker runs."""
    folder = bench.folder / name / "decide" / f"partition-{partition:05}"
    return PartitionStore(folder, SharedMemory(8 << 20, 8 << 20))


Contents = tuple[dict[bytes, bytes], list[tuple[int, bytes]]]
"""(state, due index)."""


def contents(bench: Bench) -> Contents:
    """Everything in the store but the changelog offset."""
    store = store_of(bench)
    assert store.open() is None
    pairs = {key: value for key, value in store.scan(b"", None, 1_000_000) if key[:1] != b"\xfe"}
    due = store.due_until(1 << 62, 1_000_000)
    store.close()
    return pairs, due


async def worked(bench: Bench, due_ms: int = 4_000_000_000_000) -> Contents:
    """A worker counted 200 events of 20 keys and stopped; what its store holds."""
    await bench.send(bench.names.normal, 180)
    await bench.send(bench.names.normal, 20, value=b"due:%d" % due_ms)
    worker = bench.start()
    await bench.settled(200)
    assert await worker.stop() == 0
    state, due = contents(bench)
    assert len(due) == 20
    return state, due


async def goes_on(bench: Bench) -> Any:
    """A worker starts again and counts right; returns it, stopped."""
    sent = sum(bench.sent.values())
    await bench.send(bench.names.normal, 20)
    worker = bench.start()
    bench.check_counts(await bench.settled(sent + 20))
    assert await worker.stop() == 0
    return worker


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_restored_store_equals_the_lost_one(bench: Bench) -> None:
    before = await worked(bench)
    shutil.rmtree(store_of(bench).folder)
    worker = bench.start()
    await eventually(lambda: restored(worker), 40)
    assert await worker.stop() == 0
    assert contents(bench) == before


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_whole_store_restores_nothing(bench: Bench) -> None:
    await worked(bench)
    assert restored(await goes_on(bench)) == {0: 0}


@pytest.mark.parametrize("bench", [ONE], indirect=True)
@pytest.mark.parametrize("file", ["CURRENT", "MANIFEST-*"])
async def test_an_unreadable_store_is_restored(bench: Bench, file: str) -> None:
    await worked(bench)
    for path in store_of(bench).folder.glob(file):
        path.write_bytes(b"garbage")
    worker = await goes_on(bench)
    assert "local state wiped" in worker.log()
    assert restored(worker)[0] > 0


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_flipped_bytes_are_found_and_restored(bench: Bench) -> None:
    await worked(bench)
    flip_bytes(store_of(bench))
    worker = await goes_on(bench)
    assert "local state wiped" in worker.log()
    assert restored(worker)[0] > 0


def flip_bytes(store: PartitionStore) -> None:
    """Damages the data blocks of a closed store's tables."""
    assert store.open() is None
    store._db.flush()
    store.close()
    tables = list(store.folder.glob("*.sst"))
    assert tables
    for path in tables:
        data = bytearray(path.read_bytes())
        for position in range(0, min(len(data) // 2, 2_000), 7):
            data[position] ^= 0xFF
        path.write_bytes(data)


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_store_ahead_of_its_changelog_is_wiped(bench: Bench) -> None:
    await worked(bench)
    store = store_of(bench)
    store.open()
    store.write([(b"akey-0", b"999")], [], Followed(bench.names.changelog, 1_000_000))
    store.close()
    worker = await goes_on(bench)
    assert "its changelog ends at" in worker.log()


async def trim(bench: Bench, topic: str, before_offset: int = -1) -> None:
    """Deletes every record of a topic's only partition, or those before an offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset)})
    finally:
        await admin.close()


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_trimmed_changelog_does_not_matter_while_the_store_is_whole(bench: Bench) -> None:
    await worked(bench)
    await trim(bench, bench.names.changelog)
    await goes_on(bench)


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_lost_state_is_refused(bench: Bench) -> None:
    await worked(bench)
    await trim(bench, bench.names.changelog)
    shutil.rmtree(store_of(bench).folder)
    await bench.send(bench.names.normal, 20)
    worker = bench.start()
    assert await worker.exit_status() == 1
    assert "Nothing is decided without knowing who opted out" in worker.log()
    assert len(await bench.outputs()) == 200


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_half_a_state_is_refused_however_often_it_is_tried(bench: Bench) -> None:
    """The fence is still there; what tells is where the log began when the copy was begun."""
    await worked(bench)
    store = store_of(bench)
    followed = _followed(store)
    await trim(bench, bench.names.changelog, before_offset=followed.next_offset - 4)
    shutil.rmtree(store.folder)
    await bench.send(bench.names.normal, 20)
    for _ in range(2):
        worker = bench.start()
        assert await worker.exit_status() == 1
        assert "Nothing is decided without knowing who opted out" in worker.log()
    assert len(await bench.outputs()) == 200

    rebuilt = bench.start(on_state_loss="rebuild")
    await bench.settled(220)
    assert await rebuilt.stop() == 0
    shutil.rmtree(store.folder)
    after = bench.start()
    await eventually(lambda: restored(after), 40)
    assert await after.stop() == 0, "what was rebuilt is whole for everybody who follows"


def _followed(store: PartitionStore) -> Followed:
    assert store.open() is None
    followed = store.followed()
    store.close()
    assert followed is not None
    return followed


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_copy_that_may_have_missed_a_deletion_is_begun_anew(bench: Bench) -> None:
    before = await worked(bench)
    store = store_of(bench)
    followed = _followed(store)
    assert 0 <= wall_ms() - followed.at_ms < 60_000
    store.open()
    old = replace(followed, at_ms=followed.at_ms - (COPY_AGE_HOURS_MAX + 1) * HOUR_MS)
    store.write([(b"akey-gone", b"1")], [], old)
    store.close()
    worker = bench.start()
    await eventually(lambda: restored(worker), 40)
    assert await worker.stop() == 0
    assert "has not followed its changelog for 49 hours" in worker.log()
    assert contents(bench) == before


def test_a_copy_is_begun_anew_well_before_deletions_go() -> None:
    assert COPY_AGE_HOURS_MAX <= DELETED_KEPT_HOURS - 24


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_lost_state_is_rebuilt_from_the_control_topics_when_asked(bench: Bench) -> None:
    await bench.send(bench.names.control, 20, value=b"out")
    await bench.send(bench.names.normal, 40)
    first = bench.start()
    await bench.settled(40)
    assert await first.stop() == 0
    await trim(bench, bench.names.changelog)
    shutil.rmtree(store_of(bench).folder)
    await bench.send(bench.names.normal, 20)
    worker = bench.start(on_state_loss="rebuild")
    outputs = await bench.settled(60)
    assert {record.value for record in outputs} == {b"suppressed"}
    assert await worker.stop() == 0


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_the_logic_is_told_what_is_from_before_its_state(bench: Bench) -> None:
    await bench.send(bench.names.control, 3, value=b"out")
    first = bench.start()
    await bench.send(bench.names.normal, 5)
    await bench.settled(5)
    await bench.send(bench.names.control, 4, value=b"out")
    await bench.send(bench.names.normal, 5)
    await bench.settled(10)
    assert await first.stop() == 0
    assert read_again(bench) == 3, "what was there before the first worker"
    await trim(bench, bench.names.changelog)
    shutil.rmtree(store_of(bench).folder)
    second = bench.start(on_state_loss="rebuild")
    await bench.send(bench.names.normal, 5)
    await bench.settled(15)
    await bench.send(bench.names.control, 5, value=b"out")
    await bench.send(bench.names.normal, 5)
    await bench.settled(20)
    assert await second.stop() == 0
    assert read_again(bench) == 4, "and, after the loss, all that was there by then"
    pairs, _ = contents(bench)
    assert fence.decode(pairs[FENCE]).read_again == {}


def read_again(bench: Bench) -> int:
    pairs, _ = contents(bench)
    return sum(key.startswith(b"again:") for key in pairs)


@pytest.mark.parametrize("bench", [ONE], indirect=True)
async def test_a_position_beyond_the_end_of_an_input_is_refused(bench: Bench) -> None:
    await worked(bench)
    store = store_of(bench)
    store.open()
    value = store.get(FENCE)
    assert value is not None
    fenced = fence.decode(value)
    ahead = fence.Fence(positions={**fenced.positions, bench.names.normal: 10_000})
    followed = store.followed()
    assert followed is not None
    store.write([(FENCE, fence.encode(ahead))], [], followed)
    store.close()
    worker = bench.start()
    assert await worker.exit_status() == 1
    assert "everything before 10000 has been decided" in worker.log()
