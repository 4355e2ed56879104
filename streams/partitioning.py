"""Which partition a key belongs to: murmur2(key) mod N, as Kafka's Java producer does it.

Everything about a recipient is on the partition of ``murmur2(recipient_id in UTF-8)``, so whoever
is asked about a recipient can compute who knows the answer. librdkafka's default is CRC32: its
producers must set ``partitioner=murmur2_random``.

Source: ``org.apache.kafka.common.utils.Utils.murmur2`` and
``org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey``.
"""

from __future__ import annotations

from struct import unpack_from

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit murmur2 of ``data`` with Kafka's seed (Java's is the same bits, signed)."""
    length = len(data)
    words = length >> 2
    h = _SEED ^ length
    for word in unpack_from(f"<{words}I", data):
        k = (word * _M) & _MASK
        h = (h * _M) & _MASK ^ (((k ^ (k >> 24)) * _M) & _MASK)
    tail = data[words << 2 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_for(key: bytes, partitions: int) -> int:
    """Partition of a key among ``partitions``. Java drops the sign bit before it divides."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partition_of_recipient(recipient_id: str, partitions: int) -> int:
    """Partition on which everything about a recipient is."""
    return partition_for(recipient_id.encode(), partitions)
