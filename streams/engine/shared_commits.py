"""One request to the group's coordinator for the commits of many partitions.

Each partition commits when it needs to; a worker has dozens of them, and each request costs a
thread's turn, a round trip and the broker's log an append. So one is under way at a time, and what
is asked for meanwhile goes together in the next: nobody waits longer than for two, and with one
partition nothing changes.

Invariants: a commit returns only when its own positions were accepted, and raises only for them:
when a request for several is refused each is asked for alone; positions of one partition are
committed in the order in which they were given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import TopicPartition

from streams.engine.roles import Committed

Positions = Mapping[TopicPartition, Committed]


class SharedCommits:
    """Of one worker. All on its event loop."""

    def __init__(self, commit: Callable[[Positions], Awaitable[None]]) -> None:
        self._commit = commit
        self._asked: list[tuple[Positions, asyncio.Future[None]]] = []
        """As many as there are partitions, and one more for each that is being stopped."""
        self._running: asyncio.Task[None] | None = None

    async def commit(self, positions: Positions) -> None:
        """Returns when they are committed; raises what the group says of them."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append((positions, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="commits")
        await answer

    async def _run(self) -> None:
        try:
            while self._asked:
                asked = [one for one in self._asked if not one[1].done()]
                self._asked = []
                await self._together(asked)
        finally:
            self._running = None

    async def _together(self, asked: list[tuple[Positions, asyncio.Future[None]]]) -> None:
        every = {place: at for positions, _ in asked for place, at in positions.items()}
        try:
            if every:
                await self._commit(every)
        except Exception as error:
            if len(asked) > 1:
                for one in asked:
                    await self._together([one])
            elif asked and not asked[0][1].done():
                asked[0][1].set_exception(error)
            return
        for _, answer in asked:
            if not answer.done():
                answer.set_result(None)
