"""A named worker that comes back at another address gets its share all the same."""

import pytest

from tests.engine.harness import Bench

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("engine")]


async def test_a_named_worker_comes_back_at_another_address(bench: Bench) -> None:
    await bench.send(bench.names.normal, 50)
    first = bench.start(web_port=20_001)
    await bench.settled(50)
    first.kill()
    await bench.send(bench.names.normal, 50)
    again = bench.start(web_port=20_002)
    bench.check_counts(await bench.settled(100))
    assert await again.stop() == 0
