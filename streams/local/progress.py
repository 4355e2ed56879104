"""How far everything is: what was published, and what each role has finished.

Read from Kafka alone: the topics' last stable offsets and the groups' committed positions. So it
is true of any worker anywhere, and looking costs the workers nothing.

Invariant: ``at_rest`` is said only of positions that were read *before* the ends they are
compared with, so work that arrives meanwhile is seen as work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams import topics

ANSWER_S_MAX = 10.0
READS: dict[str, tuple[str, ...]] = {
    "decide": (*topics.CONTROL, *topics.EVENTS),
    "deliver": topics.DELIVERIES,
    "ledger": (topics.DECISIONS, topics.OUTCOMES, topics.RECEIPTS),
}
"""Role -> the topics that it reads to their ends."""

Place = tuple[str, int]
"""(topic, partition)."""


class Progress(msgspec.Struct, frozen=True):
    """One look: positions of each role and the ends, by (topic, partition)."""

    ends: dict[Place, int]
    done: dict[str, dict[Place, int]]

    def end(self, names: Iterable[str]) -> int:
        """Records in these topics (in transactional ones, with their markers)."""
        wanted = frozenset(names)
        return sum(end for (topic, _), end in self.ends.items() if topic in wanted)

    def finished(self, role: str, names: Iterable[str]) -> int:
        """Records of these topics that a role has finished."""
        wanted = frozenset(names)
        return sum(at for (topic, _), at in self.done[role].items() if topic in wanted)

    def lag(self, role: str) -> int:
        """Records (and markers) that a role has still to read."""
        done = self.done[role]
        return sum(
            max(0, end - done.get(place, 0))
            for place, end in self.ends.items()
            if place[0] in READS[role]
        )

    def at_rest(self) -> bool:
        """Whether no role has anything left to read."""
        return all(self.lag(role) == 0 for role in READS)


class ProgressReader:
    """Asks a cluster how far everything is. Blocking: call it in a thread."""

    def __init__(
        self,
        bootstrap: str,
        partitions: int,
        application: str = "flowstate",
        security: Mapping[str, Any] | None = None,
    ) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **(security or {})})
        self._application = application
        self._places = [
            TopicPartition(topic, partition)
            for topic in sorted({topic for read in READS.values() for topic in read})
            for partition in range(partitions)
        ]

    def read(self) -> Progress:
        """Positions first, then ends. Raises ``KafkaException`` when the cluster is away."""
        done = {role: self._committed(f"{self._application}-{role}") for role in READS}
        return Progress(self._ends(), done)

    def _committed(self, group: str) -> dict[Place, int]:
        asked = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_S_MAX
        )
        answer = asked[group].result(ANSWER_S_MAX)
        return {(at.topic, at.partition): max(0, at.offset) for at in _positions(answer)}

    def _ends(self) -> dict[Place, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = self._admin.list_offsets(
            dict.fromkeys(self._places, latest),
            isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S_MAX,
        )  # fmt: skip
        return {
            (place.topic, place.partition): future.result(ANSWER_S_MAX).offset
            for place, future in asked.items()
        }


def _positions(answer: ConsumerGroupTopicPartitions) -> Sequence[TopicPartition]:
    return answer.topic_partitions or ()
