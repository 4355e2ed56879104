"""Headers whose names are not UTF-8, in batches as aiokafka fetches them and on a real broker."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.engine import clients  # noqa: F401 (puts the lenient reading in its place)
from streams.engine.reader import SharedReader, wait_for_arrival
from streams.engine.settings import EngineSettings
from tests.eventually import eventually
from tests.raw_names import RawName, send_named

TP = TopicPartition("events.normal", 0)
GOOD, BAD = b"good", b"\xff\xfe"


def batch(base: int, names: list[bytes], producer_id: int = -1) -> bytes:
    """A record for each name, with the value ``b"<offset>"`` and one header of that name."""
    in_transaction = int(producer_id >= 0)
    builder = _DefaultRecordBatchBuilderPy(2, 0, in_transaction, producer_id, 0, 0, 1 << 20)
    for number, name in enumerate(names):
        value = b"%d" % (base + number)
        builder.append(number, 1_700, b"key", value, [(RawName(name), BAD)])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def unpacking(data: bytes, aborted: list[tuple[int, int]] | None = None, at: int = 0) -> Any:
    """As the fetcher makes it of what came; the names are those that it looks up."""
    return fetcher.PartitionRecords(
        TP, fetcher.MemoryRecords(data), aborted, at, None, None, True, fetcher.READ_COMMITTED
    )


def read(records: Any) -> list[tuple[int, bytes, tuple[tuple[str, bytes], ...]]]:
    return [(one.offset, one.value, one.headers) for one in records]


def rows(*names: tuple[int, str]) -> list[tuple[int, bytes, tuple[tuple[str, bytes], ...]]]:
    return [(offset, b"%d" % offset, ((name, BAD),)) for offset, name in names]


def test_every_record_is_given_once_whatever_its_header_is_called() -> None:
    data = batch(0, [GOOD] * 2) + batch(2, [GOOD, BAD, GOOD]) + batch(5, [BAD]) + batch(6, [GOOD])
    wrong = "\ufffd\ufffd"
    assert read(unpacking(data)) == rows(
        (0, "good"), (1, "good"), (2, "good"), (3, wrong), (4, "good"), (5, wrong), (6, "good")
    )


def test_reading_goes_on_in_the_middle_of_a_batch() -> None:
    data = batch(0, [BAD, BAD, GOOD])
    assert read(unpacking(data, at=1)) == rows((1, "\ufffd\ufffd"), (2, "good"))


def test_an_aborted_transaction_stays_unseen() -> None:
    data = batch(0, [BAD], producer_id=7) + batch(1, [BAD, GOOD]) + batch(3, [BAD], producer_id=7)
    assert read(unpacking(data, [(7, 0)])) == rows((1, "\ufffd\ufffd"), (2, "good"))


def test_what_is_damaged_is_still_told() -> None:
    data = bytearray(batch(0, [BAD]) + batch(1, [GOOD]))
    data[-1] ^= 1
    with pytest.raises(fetcher.Errors.CorruptRecordException):
        read(unpacking(bytes(data)))


@pytest.mark.broker
@pytest.mark.xdist_group("engine")
@pytest.mark.parametrize("compression", [None, "lz4", "zstd", "snappy", "gzip"])
async def test_such_records_come_through_the_shared_reader(
    broker: Any, kafka_topics: Any, compression: str | None
) -> None:
    tp = TopicPartition(await kafka_topics.create(), 0)
    settings = EngineSettings(bootstrap=broker.bootstrap, fetch_wait_ms=20)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, compression_type=compression, enable_idempotence=False
    )
    await producer.start()
    for number, name in enumerate([GOOD, BAD, GOOD]):
        await send_named(producer, tp, b"key", b"%d" % number, name)
    await producer.stop()
    deaths: list[BaseException] = []
    reader = SharedReader("test", settings, deaths.append)
    await reader.start()
    reader.add({tp: 0})
    taken: list[Any] = []

    async def arrived() -> bool:
        taken.extend(reader.drain(tp, 2))
        await wait_for_arrival([reader], 0.1)
        return len(taken) >= 3

    await eventually(arrived)
    await reader.stop()
    assert [one.value for one in taken] == [b"0", b"1", b"2"]
    assert [one.headers[0][0] for one in taken] == ["good", "\ufffd\ufffd", "good"]
    assert (reader.position(tp), deaths) == (3, [])
