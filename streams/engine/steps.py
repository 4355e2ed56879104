"""The step of a stateful role as a Faust agent, fed through a channel of batches.

So that the topology can be read and drawn the way a Faust user expects, the computation of every
batch passes through an agent; reading, transactions and state stay where they are. One agent
serves all partitions: a step awaits nothing, so no partition waits for another one's commit.

The channel's queue is not under Faust's flow control, and its items are plain values: Faust clears
its queues and skips events while a rebalance goes on, and a batch that a runner waits for must be
finished, not dropped. What it costs is in docs/decisions/0002-the-engine-under-faust.md.

Invariant: an error in a step reaches the runner that asked for it, and never restarts the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from faust import App
from faust.channels import Channel
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from streams.engine.api import Result

RunStep = Callable[[Callable[[], Result]], Awaitable[Result]]


class Step(msgspec.Struct):
    """One computation, with where its result is awaited."""

    compute: Callable[[], Result]
    result: asyncio.Future[Result]


class StepChannel(Channel[Step]):
    """A channel that no rebalance empties."""

    @property
    def queue(self) -> ThrowableQueue[Any]:
        """The queue of whoever iterates; bounded by one step per partition."""
        if self._queue is None:
            self._queue = ThrowableQueue(flow_control=FlowControlEvent(initially_suspended=False))
        return self._queue


class StepAgent:
    """Runs steps through an agent of the app."""

    def __init__(self, app: App, name: str) -> None:
        self._channel: Any = StepChannel(app)

        @app.agent(self._channel, name=name)
        async def step(stream: Any) -> None:
            async for one in stream:
                if one.result.cancelled():
                    continue
                try:
                    one.result.set_result(one.compute())
                except Exception as error:
                    one.result.set_exception(error)

        self.agent = step

    @property
    def listening(self) -> bool:
        """Whether the agent takes steps."""
        return bool(self._channel.subscriber_count)

    async def __call__(self, compute: Callable[[], Result]) -> Result:
        """The result of ``compute``, which ran in the agent."""
        if not self.listening:
            return compute()  # The agent is not listening yet, or no more: a send would be lost.
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        # Put, not sent: a stream skips *events* while a rebalance is going on.
        await self._channel.put(Step(compute, result))
        return await result


async def run_directly(compute: Callable[[], Result]) -> Result:
    """A step without an agent."""
    return compute()
