"""Our murmur2 against Kafka's own vectors and against aiokafka's implementation."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from streams.partitioning import murmur2, partition_for, partition_of_recipient

# org.apache.kafka.common.utils.UtilsTest.testMurmur2 (signed, as Java prints them)
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), KAFKA_VECTORS.items())
def test_vectors_of_kafka(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.binary(max_size=300))
def test_the_same_as_aiokafka(data: bytes) -> None:
    assert murmur2(data) == murmur2_of_aiokafka(data) & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 300))
def test_the_same_partition_as_aiokafka(key: bytes, partitions: int) -> None:
    """For any number of partitions: only one that is no power of two shows the sign bit."""
    every = list(range(partitions))
    assert partition_for(key, partitions) == DefaultPartitioner()(key, every, every)


def test_partition_is_in_range_and_spreads() -> None:
    seed = 7
    generator = random.Random(seed)
    counts = [0] * 16
    for _ in range(4_000):
        counts[partition_for(generator.randbytes(12), 16)] += 1
    assert min(counts) > 150, f"seed {seed}: {counts}"


def test_a_recipient_is_hashed_as_utf_8() -> None:
    assert partition_of_recipient("jürgen", 16) == partition_for("jürgen".encode(), 16)
