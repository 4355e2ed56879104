"""The decide step alone: ``DecideLogic.process`` and the write to RocksDB, without Kafka.

Everybody's preferences and addresses are decided first (not measured), then events in batches over
all partitions in turn. Times differ by the hour on a shared machine, so the digest of all state and
outputs says whether two versions do the same, and the CPU of both, run in turn, which is cheaper.

Instructions instead of seconds, which no neighbour changes, in a folder that ``make compiled`` made
(those of the batches alone are counted, in all four rounds)::

    valgrind --tool=callgrind --instr-atstart=no python -m benchmarks process --quick --repeats 1

With ``--cache-sim=yes`` it counts what misses a cache too, which costs more than the instructions
where the machine is shared; ``--I1=32768,8,64 --D1=32768,8,64`` and ``--LL=4194304,16,64`` are a
core's own two caches and what may be left to it of the shared one.
"""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import people
from benchmarks.report import Benchmark, Figures, Options
from benchmarks.stand import say
from streams.agents.decide import DecideLogic
from streams.codec import Codec
from streams.engine.api import Batch, Result
from streams.engine.reader import TakenRecord
from streams.engine.store import Followed, PartitionStore, SharedMemory
from streams.engine.worker import COLLECT_AFTER
from streams.partitioning import partition_of_recipient
from streams.settings import default_path, load

AT_MS = 1_780_000_000_000
ROUNDS = 4
"""State grows from one to the next."""
BATCH_RECORDS_MAX = 1_000
BLOCK_CACHE_BYTES, WRITE_BUFFER_BYTES = 256 << 20, 128 << 20
UNDER_VALGRIND = "vgpreload" in os.environ.get("LD_PRELOAD", "")


class Partition:
    """One partition's logic and store."""

    def __init__(self, number: int, folder: Path, memory: SharedMemory, logic: DecideLogic) -> None:
        self.number, self.logic = number, logic
        self.store = PartitionStore(folder / str(number), memory)
        self.store.open()
        self.waiting: list[TakenRecord] = []
        self.taken = self.batches = 0
        self.digest = hashlib.sha256()

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """A record for the next batches."""
        offset = self.taken + len(self.waiting)
        self.waiting.append(TakenRecord(topic, self.number, offset, AT_MS, key, value, ()))

    def batch(self, records_max: int) -> float:
        """Decides and writes one batch; the CPU seconds that it took."""
        records, self.waiting = self.waiting[:records_max], self.waiting[records_max:]
        self.taken += len(records)
        self.batches += 1
        batch = Batch(self.number, AT_MS + self.batches, records, False)
        began = time.process_time()
        result = self.logic.process(batch, self.store)
        changes = list(result.changes.items())
        self.store.write(changes, result.due, Followed("changelog", self.batches))
        took_s = time.process_time() - began
        if not UNDER_VALGRIND:  # Where it would be a sixth of all that is counted.
            self._note(result)
        return took_s

    def _note(self, result: Result) -> None:
        for key, value in result.changes.items():
            self.digest.update(key + (value or b"-"))
        for output in result.outputs:
            self.digest.update(output.topic.encode() + (output.value or b"-"))


def laid(partitions: list[Partition], records: Iterable[people.Record]) -> int:
    """Gives each record to its partition; how many that were."""
    count = 0
    for topic, key, value in records:
        partitions[partition_of_recipient(key.decode(), len(partitions))].add(topic, key, value)
        count += 1
    return count


def worked_off(partitions: list[Partition]) -> float:
    """CPU seconds of deciding what was laid, in batches of the engine's size in turn."""
    cpu_s = 0.0
    while any(partition.waiting for partition in partitions):
        for partition in partitions:
            if partition.waiting:
                cpu_s += partition.batch(BATCH_RECORDS_MAX)
    return cpu_s


@contextmanager
def counted() -> Iterator[None]:
    """Has callgrind count the instructions of this alone, where it is there."""
    if not UNDER_VALGRIND:
        yield
        return
    pid = str(os.getpid())
    subprocess.run(["callgrind_control", "-i", "on", pid], check=True, stdout=subprocess.DEVNULL)
    yield
    subprocess.run(["callgrind_control", "-i", "off", pid], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def collected_as_by_a_worker() -> Iterator[None]:
    """Has garbage collected as ``streams/engine/worker.py`` does."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@collected_as_by_a_worker()
def measure(options: Options) -> Figures:
    """One repeat."""
    events = options.size(options.events, 60_000, 4_000)
    recipients = options.size(options.recipients, 50_000, 3_000)
    count = options.partitions or (1 if options.quick else 8)
    memory = SharedMemory(BLOCK_CACHE_BYTES, WRITE_BUFFER_BYTES)
    logic = DecideLogic(Codec(), load(default_path()).policy, count)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-process-") as folder:
        partitions = [Partition(n, Path(folder), memory, logic) for n in range(count)]
        laid(partitions, people.population(recipients, AT_MS))
        worked_off(partitions)
        for number in range(1, ROUNDS + 1):
            made = people.events(events, recipients, f"run{number}", AT_MS, seed=number)
            records = laid(partitions, made)
            with counted():
                cpu_s = worked_off(partitions)
            figures[f"cpu_us_per_event_{number}"] = cpu_s / records * 1e6
        for partition in partitions:
            partition.store.close()
    if not UNDER_VALGRIND:
        digest = hashlib.sha256(b"".join(each.digest.digest() for each in partitions)).hexdigest()
        say(f"state and outputs: {digest[:16]}")
    return figures


BENCHMARK = Benchmark(
    name="process",
    what="the decide step alone, on RocksDB and without Kafka; round by round, as state grows",
    run=measure,
    goals=(),
)
