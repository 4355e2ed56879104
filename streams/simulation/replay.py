"""Decides everything once more, from the recorded inputs alone, and compares byte by byte.

Each committed fence record says which inputs a transaction covered, at which clock and under which
policy. So ``decide`` over those inputs, from an empty state, must give every state record and
every output of the run, whatever was killed, fenced, restored or handed over in it. The order of
the records of one batch follows from the fence alone: control topics in their order, then events.

Invariant: nothing of the run but its inputs, its fences and its policy is used to make the copy.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from streams import tables, topics
from streams.agents.decide import DecideLogic
from streams.codec import DecodeError
from streams.engine import fence
from streams.engine.api import Batch, Due, Output, Result
from streams.simulation.evidence import Evidence

COMPARED = (topics.DECISIONS, topics.DEAD_LETTERS, *topics.DELIVERIES)
"""Topics to which a partition of ``decide`` writes only its own number."""
INPUTS = (*topics.CONTROL, *topics.EVENTS)


class Copy:
    """State of one partition, made anew. Implements ``StateView``."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.due: list[tuple[int, bytes]] = []

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> Iterable[tuple[bytes, bytes]]:
        found = sorted(item for item in self.data.items() if item[0].startswith(prefix))
        return [item for item in found if after is None or item[0] > after][:limit]

    def due_until(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        return self.due[: min(limit, bisect.bisect_left(self.due, (now_ms + 1, b"")))]

    def take(self, result: Result) -> None:
        """Makes a result happen."""
        for key, value in result.changes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
        for entry in result.due:
            if entry.old_ms is not None:
                self._forget((entry.old_ms, entry.owner))
            if entry.new_ms is not None:
                self._forget((entry.new_ms, entry.owner))
                bisect.insort(self.due, (entry.new_ms, entry.owner))

    def _forget(self, entry: tuple[int, bytes]) -> None:
        at = bisect.bisect_left(self.due, entry)
        if at < len(self.due) and self.due[at] == entry:
            del self.due[at]


class Replay:
    """One partition, from its first fence to its last."""

    def __init__(
        self, evidence: Evidence, partition: int, changelog: Sequence[Any], wake_owners_max: int
    ) -> None:
        self._evidence = evidence
        self._partition = partition
        self._changelog = changelog
        self._wake_owners_max = wake_owners_max
        self._logic = DecideLogic(evidence.codec, evidence.policy, evidence.partitions)
        self._inputs = {
            topic: {
                record.offset: record for record in evidence.records.get((topic, partition), ())
            }
            for topic in INPUTS
        }
        self._positions: dict[str, int] = {}
        self._made: defaultdict[str, list[Output]] = defaultdict(list)
        self.copy = Copy()
        self.batches = 0

    def differences(self) -> Iterator[str]:
        """What is not as it was; only the first difference of the state is told."""
        written: dict[bytes, bytes | None] = {}
        for record in self._changelog:
            if record.key != tables.FENCE:
                written[record.key] = record.value
                continue
            fenced = fence.decode(record.value)
            if fenced.kind != "idle" and fenced.policy_version not in self._evidence.policies:
                yield (
                    f"partition {self._partition}, {fenced.kind} {fenced.batch_number} was decided"
                    f" under the policy {fenced.policy_version!r}, which nobody knows"
                )
                return
            result = self._decide(fenced)
            if result.changes != written:
                yield self._explain(fenced, result.changes, written, record.offset)
                return
            written = {}
        yield from self._compare_outputs()

    def _decide(self, fenced: fence.Fence) -> Result:
        self.batches += 1
        records = self._records(fenced)
        self._positions.update(fenced.positions)
        if fenced.kind == "idle":
            return Result()
        self._logic.use_policy(self._evidence.policies[fenced.policy_version])
        if fenced.kind == "batch":
            batch = Batch(self._partition, fenced.now_ms, records, read_again=fenced.read_again)
            result = self._logic.process(batch, self.copy)
        else:
            due = self.copy.due_until(fenced.now_ms, self._wake_owners_max)
            result = self._logic.wake(self._partition, due, fenced.now_ms, self.copy, False)
            result.due = [*(Due(owner, at, None) for at, owner in due), *result.due]
        self.copy.take(result)
        for output in result.outputs:
            if output.topic in COMPARED:
                self._made[output.topic].append(output)
        return result

    def _records(self, fenced: fence.Fence) -> list[Any]:
        """The records that a batch decided: what came before it had no effect."""
        records = []
        for topic in INPUTS:
            begin = fenced.began.get(topic, self._positions.get(topic, 0))
            known = self._inputs[topic]
            end = fenced.positions.get(topic, begin)
            records += [known[at] for at in range(begin, end) if at in known]
        return records

    def _explain(
        self, fenced: fence.Fence, made: dict[bytes, Any], was: dict[bytes, Any], offset: int
    ) -> str:
        keys = sorted(key for key in made.keys() | was.keys() if made.get(key) != was.get(key))
        return (
            f"partition {self._partition}, {fenced.kind} {fenced.batch_number} (changelog"
            f" {offset}): {len(keys)} state records differ, first {keys[0]!r}"
        )

    def _is_of_decide(self, topic: str, value: bytes) -> bool:
        """Not somebody's garbage, nor a dead letter about a record that only ``deliver`` reads."""
        codec = self._evidence.codec
        if topic == topics.DEAD_LETTERS:
            return codec.decode("dead_letter", value)["topic"] not in topics.DELIVERIES
        try:
            return topic == topics.DECISIONS or bool(codec.decode_delivery(value))
        except DecodeError:
            return False

    def _compare_outputs(self) -> Iterator[str]:
        for topic in COMPARED:
            was = self._evidence.records.get((topic, self._partition), ())
            made = self._made[topic]
            here = [(output.key, output.value) for output in made]
            there = [(r.key, r.value) for r in was if self._is_of_decide(topic, r.value)]
            if here != there:
                yield (
                    f"partition {self._partition}: {topic} has {len(was)} records, deciding again"
                    f" gives {len(made)}, and they differ"
                )
