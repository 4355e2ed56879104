"""What client libraries say, and how often they ask, while Kafka is away."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka.client import AIOKafkaClient

from streams.engine import client_logs
from streams.engine.client_logs import OnceASecond, quiet_client_logs
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the filter sees, to be moved."""
    clock = [100.0]
    monkeypatch.setattr("streams.engine.client_logs.time.monotonic", lambda: clock[0])
    return clock


def record(text: str, *values: object, name: str = "aiokafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, text, values, None)


def test_the_same_is_said_once_a_second_with_how_often(said: list[float]) -> None:
    calm = OnceASecond()
    assert calm.filter(record("no node %s", 1))
    assert not calm.filter(record("no node %s", 2))
    assert not calm.filter(record("no node %s", 1))
    assert calm.filter(record("another"))
    assert calm.filter(record("no node %s", 1, name="aiokafka.conn"))
    said[0] += 1
    third = record("no node %s", 3)
    assert calm.filter(third)
    assert third.getMessage() == "no node 3 (and 2 more)"
    said[0] += 1
    assert calm.filter(last := record("no node %s", 4))
    assert last.getMessage() == "no node 4"


def test_what_it_remembers_is_bounded(said: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_logs, "KINDS_MAX", 3)
    calm = OnceASecond()
    for number in range(10):
        assert calm.filter(record(f"made of its values {number}"))
        assert len(calm._kinds) <= 3


def test_every_logger_of_the_client_has_it_once() -> None:
    quiet_client_logs()
    quiet_client_logs()
    for name in ("aiokafka", "aiokafka.producer.sender", "aiokafka.consumer.fetcher"):
        filters = logging.getLogger(name).filters
        assert [type(one) for one in filters].count(OnceASecond) == 1


async def test_a_client_that_nobody_answers_waits_before_it_asks_again() -> None:
    client = AIOKafkaClient(**client_settings(EngineSettings(bootstrap="127.0.0.1:1"), "test"))
    asking = asyncio.create_task(client._md_synchronizer())
    asked = 0
    try:
        async with asyncio.timeout(client._retry_backoff * 4.5):
            while True:
                assert await client.force_metadata_update() is False
                asked += 1
    except TimeoutError:
        pass
    asking.cancel()
    assert 0 < asked <= 5
