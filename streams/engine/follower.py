"""Reads small compacted topics whole, on every worker: kill switches, budgets.

What they say must hold before anything is decided or sent, so ``start`` returns only when
everything up to the end was delivered. After that, records arrive as they are appended.

Invariant: every record is delivered at least once, in order per partition; an error in a callback
ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams.engine.clients import client_settings
from streams.engine.reader import OnDeath, SharedReader, wait_for_arrival
from streams.engine.roles import Follow
from streams.engine.settings import EngineSettings
from streams.engine.topics_admin import TopicsWrong

WAIT_S = 5.0


class Followers:
    """All followed topics of a worker on one connection."""

    def __init__(
        self, follows: Sequence[Follow], settings: EngineSettings, on_death: OnDeath
    ) -> None:
        self._follow_of = {follow.topic: follow for follow in follows}
        self._settings = settings
        self._on_death = on_death
        self._reader = SharedReader("follower", settings, on_death)
        self._partitions: list[TopicPartition] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Delivers everything that is there, then goes on in the background."""
        if not self._follow_of:
            return
        await self._reader.start()
        self._partitions = await self._find_partitions()
        begins = await self._reader.beginning_offsets(self._partitions)
        ends = await self._reader.end_offsets(self._partitions)
        self._reader.add(dict(begins))
        while any(self._reader.position(tp) < end for tp, end in ends.items()):
            if not self._deliver():
                await wait_for_arrival([self._reader], WAIT_S)
        self._task = asyncio.create_task(self._run(), name="followers")

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._follow_of:
            await self._reader.stop()

    async def _find_partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(**client_settings(self._settings, "follower-admin"))
        await admin.start()
        try:
            topics = await admin.describe_topics()
        finally:
            await admin.close()
        found = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in topics
            if topic["topic"] in self._follow_of
            for partition in topic["partitions"]
        ]
        if hidden := sorted(set(self._follow_of) - {tp.topic for tp in found}):
            # Going on without would be to know of no kill switch, and nobody would see it.
            raise TopicsWrong(
                f"{', '.join(hidden)}: no such topic, or this worker's principal may not describe"
                " it. Make it with `flowstate topics create`, or allow Describe and Read"
            )
        return found

    def _deliver(self) -> int:
        delivered = 0
        for tp in self._partitions:
            records = self._reader.drain(tp, self._settings.control_records_max)
            on_record = self._follow_of[tp.topic].on_record
            for record in records:
                on_record(record)
            delivered += len(records)
        return delivered

    async def _run(self) -> None:
        try:
            while True:
                if not self._deliver():
                    await wait_for_arrival([self._reader], WAIT_S)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._on_death(error)
