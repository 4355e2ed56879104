"""A role without state, as deliver and ledger are: it copies its input and commits positions.

The metadata of every commit is ``clean`` after a graceful stop and ``dirty`` otherwise. What a
runner began with is said in the log.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec
from aiokafka import AIOKafkaProducer

from streams.engine.faust_app import EngineApp
from streams.engine.roles import Committed, Lane, PartitionContext, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.worker import run_worker
from tests.engine.counting import WorkerArguments

log = logging.getLogger(__name__)


class CopyRunner:
    """Implements ``PartitionRunner``."""

    def __init__(self, partition: int, context: PartitionContext, source: str, out: str) -> None:
        self.partition = partition
        self.context = context
        self.source = source
        self.out = out
        self.stopping = False
        self.idle = asyncio.Event()
        self.idle.set()

    async def start(self) -> None:
        self.producer = AIOKafkaProducer(**self.context.client_settings(), acks="all")
        await self.producer.start()
        found = (await self.context.committed()).get(self.source)
        log.info("partition %d begins with %s", self.partition, found)

    async def run(self) -> None:
        self.idle.clear()
        try:
            while not self.stopping:
                records = await self.context.take((self.source,), 50, 100)
                for record in records:
                    await self.producer.send(
                        self.out, key=record.key, value=record.value, partition=self.partition
                    )
                if records:
                    await self.producer.flush()
                    await self.commit("dirty")
                    self.context.progress()
        finally:
            self.idle.set()

    async def commit(self, metadata: str) -> None:
        position = Committed(self.context.position(self.source), metadata)
        await self.context.commit({self.source: position})
        log.info("partition %d committed %s", self.partition, position)

    async def stop(self, graceful: bool) -> None:
        self.stopping = True
        if graceful:
            await self.idle.wait()
            await self.commit("clean")
        await self.producer.stop()


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    arguments = msgspec.json.decode(sys.argv[1], type=WorkerArguments)
    names, settings = arguments.names, arguments.settings
    role = RoleSpec(
        name="copy",
        lanes=(Lane("normal", (names.normal,), 50),),
        runner_factory=lambda p, context: CopyRunner(p, context, names.normal, names.out),
    )
    sys.exit(run_worker(lambda: make(role, settings)))


def make(role: RoleSpec, settings: EngineSettings) -> EngineApp:
    return EngineApp(role, settings)


if __name__ == "__main__":
    main()
