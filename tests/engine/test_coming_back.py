"""Workers that come back: at another address, before they ever decided, and again and again."""

import pytest

from tests.engine.harness import Bench
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]

SMALL_BATCHES = {"batch_records_max": 20}
STOPS = 5


async def test_a_named_worker_comes_back_at_another_address(bench: Bench) -> None:
    await bench.send(bench.names.normal, 50)
    first = bench.start(web_port=20_001)
    await bench.settled(50)
    first.kill()
    await bench.send(bench.names.normal, 50)
    again = bench.start(web_port=20_002)
    bench.check_counts(await bench.settled(100))
    assert await again.stop() == 0


async def test_a_worker_that_never_decided_can_start_again(bench: Bench) -> None:
    """Positions in the group with no fence behind them would be taken for lost state."""
    first = bench.start()
    await eventually(lambda: first.log().count("restored") >= bench.settings.partitions)
    assert await first.stop() == 0
    again = bench.start()
    await bench.send(bench.names.normal, 50)
    bench.check_counts(await bench.settled(50))
    assert await again.stop() == 0


@pytest.mark.parametrize("bench", [SMALL_BATCHES], indirect=True)
async def test_what_is_taken_when_a_stop_comes_is_left_for_the_next(bench: Bench) -> None:
    """Records that were taken and not decided must not be passed by the last fence."""
    for number in range(1, STOPS + 1):
        await bench.send(bench.names.normal, 400)
        worker = bench.start()
        await bench.settled(400 * (number - 1) + 40)
        assert await worker.stop() == 0, worker.log()[-2000:]
    last = bench.start()
    bench.check_counts(await bench.settled(400 * STOPS, 90))
    # Those before may have decided everything: a process that only begins knows no signal yet.
    await eventually(lambda: last.log().count("restored") >= bench.settings.partitions)
    assert await last.stop() == 0
