"""The deliver role end to end: real broker, real engine, provider servers over the network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.deliver_bench import DeliverBench, make_deliver_bench
from tests.agents.delivering import delivery

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KINDS = ("apns", "fcm", "sms", "email", "webhook")


@pytest.fixture
async def bench(broker: Any, tmp_path: Path) -> AsyncIterator[DeliverBench]:
    async with make_deliver_bench(broker.bootstrap, tmp_path) as made:
        yield made


async def test_every_kind_reaches_its_provider_and_is_answered(bench: DeliverBench) -> None:
    sent = [delivery(10 * n + k, kind) for n in range(20) for k, kind in enumerate(KINDS)]
    sent += [delivery(1_000 + k, kind, priority="critical") for k, kind in enumerate(KINDS)]
    worker = bench.start()
    await bench.send(sent)
    outcomes = await bench.answered(len(sent))
    assert {o["status"] for o in outcomes} == {"accepted"}
    assert sorted(o["delivery_id"] for o in outcomes) == sorted(d.delivery_id for d in sent)
    received = bench.received()
    assert sorted(r["delivery_id"] for r in received) == sorted(d.delivery_id for d in sent)
    assert {r["notification_id"] for r in received} == {d.notification_id for d in sent}
    assert await bench.feedback() == []
    assert await worker.stop() == 0
