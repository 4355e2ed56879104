"""Where the logs end right now, asked once for everybody who wants to know at the same time.

Draining the control topics to a snapshot before every event batch, in every partition, would be a
request per batch. As a database groups its commits, callers that arrive while a request is on its
way share the next one. The connection is its own: a broker answers one request after the other,
and behind a waiting fetch the answer would come late.

Invariant: an answer is from a request that was sent after its caller asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import TopicPartition

from streams.engine.reader import SharedReader


class EndOffsets:
    """Groups calls for last stable offsets."""

    def __init__(self, reader: SharedReader) -> None:
        self.reader = reader
        self._wanted: set[TopicPartition] = set()
        self._next: asyncio.Future[dict[TopicPartition, int]] | None = None
        self._task: asyncio.Task[None] | None = None
        self.requests = 0
        self.calls = 0

    async def get(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Last stable offset of each partition, as of a moment after this call."""
        wanted = list(partitions)
        if not wanted:
            return {}
        self.calls += 1
        self._wanted.update(wanted)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        answer = self._next
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="end-offsets")
        offsets = await asyncio.shield(answer)
        return {tp: offsets[tp] for tp in wanted}

    async def stop(self) -> None:
        """Ends what is on its way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        while self._next is not None:
            answer, wanted = self._next, self._wanted
            self._next, self._wanted = None, set()
            self.requests += 1
            try:
                answer.set_result(await self.reader.end_offsets(wanted))
            except asyncio.CancelledError:
                answer.cancel()
                raise
            except Exception as error:
                answer.set_exception(error)
                answer.exception()  # Every caller may have been cancelled meanwhile.
