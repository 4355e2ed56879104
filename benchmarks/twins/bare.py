"""The batch protocol and nothing else, on the thin job: what the product's engine is held against.

Own reader in assign mode, one transactional producer per partition, state in RocksDB written after
the commit, partitions overlapped on one event loop. It has no membership, no restore, no timers
and no lanes, and takes its partitions by itself: what the engine costs above this is the price of
being one.

    python -m benchmarks.twins.bare BOOTSTRAP PARTITIONS FOLDER EVENTS
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.thin_rules import EVENTS, apply, decode_state, encode_state

DELIVERIES, CHANGELOG = "bare.deliveries", "bare.changelog"
TOPICS = (DELIVERIES, CHANGELOG)
BATCH_RECORDS_MAX = 4_000
FENCE = b"\0fence"
Pair = tuple[bytes, bytes]


class Partition:
    """Everything that belongs to one partition; nobody else touches it."""

    def __init__(self, bootstrap: str, run: str, number: int, folder: Path) -> None:
        options = Options(True)
        options.create_if_missing(True)
        self.number = number
        self.source = TopicPartition(EVENTS, number)
        self.store = Rdict(str(folder / str(number)), options)
        self.producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            linger_ms=0,
            max_batch_size=1 << 20,
            max_request_size=4 << 20,
            enable_idempotence=True,
            transactional_id=f"{run}-{number}",
        )

    def decide(self, records: Sequence[Any]) -> tuple[list[Pair], list[Pair]]:
        """Records -> deliveries and changed states."""
        keys = list({record.key for record in records})
        values: Any = self.store.get(keys)
        states = {key: decode_state(value) for key, value in zip(keys, values, strict=True)}
        changed, deliveries = set(), []
        for record in records:
            is_changed, delivery = apply(record.value, states[record.key])
            if is_changed:
                changed.add(record.key)
            if delivery is not None:
                deliveries.append((record.key, delivery))
        return deliveries, [(key, encode_state(states[key])) for key in changed]

    async def send(self, topic: str, pairs: Iterable[Pair]) -> None:
        """Into as few record batches as fit; the partition is known, so nothing is hashed."""
        batch = self.producer.create_batch()
        for key, value in pairs:
            if batch.append(key=key, value=value, timestamp=None) is None:
                batch.close()
                await self.producer.send_batch(batch, topic, partition=self.number)
                batch = self.producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        batch.close()
        await self.producer.send_batch(batch, topic, partition=self.number)

    async def process(self, records: Sequence[Any]) -> None:
        """One batch, whole or not at all."""
        deliveries, changes = self.decide(records)
        changes.append((FENCE, b"%d" % (records[-1].offset + 1)))
        await self.producer.begin_transaction()
        if deliveries:
            await self.send(DELIVERIES, deliveries)
        await self.send(CHANGELOG, changes)
        await self.producer.commit_transaction()
        writes = WriteBatch(raw_mode=True)
        for key, value in changes:
            writes.put(key, value)
        self.store.write(writes)


async def run(bootstrap: str, count: int, folder: Path, events: int) -> dict[str, float]:
    """Works off ``events`` events and says what it took."""
    run_id = f"bare-{uuid.uuid4().hex}"
    partitions = [Partition(bootstrap, run_id, number, folder) for number in range(count)]
    await asyncio.gather(*(each.producer.start() for each in partitions))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=2 << 20,
    )
    await consumer.start()
    consumer.assign([each.source for each in partitions])
    await consumer.seek_to_beginning()
    done, began, used = 0, time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)

    async def work(partition: Partition) -> None:
        nonlocal done
        source = partition.source
        while done < events:
            found = await consumer.getmany(source, timeout_ms=200, max_records=BATCH_RECORDS_MAX)
            if records := found.get(source):
                await partition.process(records)
                done += len(records)

    await asyncio.gather(*(work(each) for each in partitions))
    seconds, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    await consumer.stop()
    await asyncio.gather(*(each.producer.stop() for each in partitions))
    return {
        "events_per_second": events / seconds,
        "seconds": seconds,
        "cpu_s_per_100_000": cpu_s * 100_000 / events,
        "rss_mb": now.ru_maxrss / 1024,
    }


def main() -> None:
    """Prints one JSON object."""
    folder = Path(sys.argv[3])
    folder.mkdir(parents=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(sys.argv[1], int(sys.argv[2]), folder, int(sys.argv[4])))))


if __name__ == "__main__":
    main()
