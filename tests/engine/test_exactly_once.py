"""A worker is killed at every step of the batch protocol; afterwards everything adds up."""

import pytest

from streams.engine.crash_points import BATCH_POINTS
from tests.engine.harness import Bench

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]

SMALL_BATCHES = {"batch_records_max": 40}
KILLED = -9


@pytest.mark.parametrize("bench", [SMALL_BATCHES], indirect=True)
@pytest.mark.parametrize("point", BATCH_POINTS)
async def test_a_kill_loses_nothing_and_repeats_nothing(bench: Bench, point: str) -> None:
    await bench.send(bench.names.normal, 200)
    crashed = bench.start(crash_point=f"{point}:2")
    assert await crashed.exit_status() == KILLED, crashed.log()
    await bench.send(bench.names.normal, 100)
    again = bench.start()
    outputs = await bench.settled(300)
    bench.check_counts(outputs)
    assert await again.stop() == 0
    bench.check_counts(await bench.outputs())
    await bench.check_state()


@pytest.mark.parametrize("bench", [SMALL_BATCHES], indirect=True)
async def test_a_graceful_stop_under_load_repeats_nothing(bench: Bench) -> None:
    await bench.send(bench.names.normal, 400)
    first = bench.start()
    await bench.settled(50)
    assert await first.stop() == 0
    second = bench.start()
    # The first may have decided them all: these are the second's, which is up then.
    await bench.send(bench.names.normal, 100)
    bench.check_counts(await bench.settled(500))
    assert await second.stop() == 0
    bench.check_counts(await bench.outputs())


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_producers_are_read(bench: Bench, codec: str) -> None:
    from aiokafka import AIOKafkaProducer

    await bench.producer.stop()
    bench.producer = AIOKafkaProducer(
        bootstrap_servers=bench.settings.bootstrap, compression_type=codec
    )
    await bench.producer.start()
    await bench.send(bench.names.normal, 100, value=b"compressible " * 20)
    worker = bench.start()
    bench.check_counts(await bench.settled(100))
    assert await worker.stop() == 0
