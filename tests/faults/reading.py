"""What the log holds: read whole, as the evidence of a row."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics
from streams.core.state_codec import due_of_moving
from streams.engine import header_names
from streams.simulation.evidence import Evidence
from streams.tables import MOVING

header_names.use()


async def everything(bootstrap: str, partitions: int) -> dict[tuple[str, int], list[Any]]:
    """(topic, partition) -> all committed records that it has now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    records: dict[tuple[str, int], list[Any]] = {}
    try:
        places = [
            TopicPartition(spec.name, number)
            for spec in topics.SPECS
            for number in range(1 if spec.partitions == "one" else partitions)
        ]
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        wanted = [tp for tp in places if ends[tp] > begins[tp]]
        consumer.assign(wanted)
        for tp in wanted:
            consumer.seek(tp, begins[tp])
        waiting = set(wanted)
        while waiting:
            for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                records.setdefault((tp.topic, tp.partition), []).extend(batch)
            for tp in tuple(waiting):
                if await consumer.position(tp) >= ends[tp]:
                    waiting.discard(tp)
    finally:
        await consumer.stop()
    return records


async def ends(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """Partition -> end of a topic, for who reads what is committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await consumer.end_offsets(places)
        return {tp.partition: end for tp, end in ends.items()}
    finally:
        await consumer.stop()


async def taken(bootstrap: str) -> dict[TopicPartition, int]:
    """How far decide says that it has read."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets("flowstate-decide")
    finally:
        await admin.close()
    return {tp: position.offset for tp, position in found.items()}


def will_wake(evidence: Evidence, soon_ms: int) -> bool:
    """Whether a timer will fire soon: an escalation, say, of what has been delivered already."""
    latest: dict[bytes, bytes | None] = {}
    for change in evidence.of((topics.STATE_CHANGELOG,)):
        if change.key.startswith(MOVING):
            latest[change.key] = change.value
    dues = (due_of_moving(value) for value in latest.values())
    return any(due_ms is not None and due_ms < soon_ms for due_ms in dues)
