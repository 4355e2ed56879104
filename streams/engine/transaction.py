"""The transactional producer of one partition: what a batch writes is all committed or none.

``transactional.id`` is ``<application>.<role>.<partition>``, so starting it fences whoever owned
the partition before: their next write, and any transaction that they left open, is dead.

Records are packed into record batches before they are sent, because the partition is known
(``packing.py``).

Before it takes over, and before each transaction, it sees to it that every partition has heard how
the one before ended; a broker can forget to say (``endings.py``).

Invariants: no transaction is committed before every record batch of it was acknowledged; after
any failure the producer is never used again (the process ends).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)

from streams.engine.api import Output
from streams.engine.clients import client_settings, compression_of
from streams.engine.crash_points import CrashPoints
from streams.engine.endings import Ending, Endings
from streams.engine.packing import NO_HEADERS, Row, packed
from streams.engine.roles import Fenced
from streams.engine.settings import EngineSettings

log = logging.getLogger(__name__)

Change = tuple[bytes, bytes | None]
MARKER = 1
HEARD_POLL_S = 0.005
TELL_AGAIN_S = 2.0
"""A marker that is not there so long after the commit is asked for again."""
FENCED_ERRORS = (ProducerFenced, InvalidProducerEpoch)


class Unheard(msgspec.Struct):
    """A partition that may not have heard that what it holds of ours is committed."""

    marker: int
    """Where its marker is, at the earliest."""
    since: float


class PartitionProducer:
    """One partition's transactions, one after the other."""

    def __init__(
        self,
        role: str,
        partition: int,
        settings: EngineSettings,
        crash_points: CrashPoints,
        writes: Iterable[str] = (),
        writes_anywhere: Iterable[str] = (),
        on_told_again: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``writes``: topics in whose partition of this number its transactions write;
        ``writes_anywhere``: in whose partitions of any number; ``on_told_again`` counts partitions.
        """
        self._partition = partition
        self._writes = tuple(writes)
        self._writes_anywhere = tuple(writes_anywhere)
        self._on_told_again = on_told_again
        self._unheard: dict[TopicPartition, Unheard] = {}
        self._settings = settings
        self._crash_points = crash_points
        self._producer: Any = None
        self.transactional_id = f"{settings.application}.{role}.{partition}"
        self._client_name = f"{role}-{partition}"

    async def start(self) -> None:
        """Fences the previous owner of the partition. When this returns, it cannot write, and its
        latest transaction has ended wherever it wrote."""
        async with Endings.opened(self._settings, f"{self._client_name}-ends") as endings:
            ending = await endings.latest(self.transactional_id)
            await self._fence()
            if ending is not None and self._writes:
                await self._until_all_heard(endings, ending)

    async def _until_all_heard(self, endings: Endings, ending: Ending) -> None:
        """Tells how the latest transaction ended wherever something of this producer's hangs.

        Nobody else writes to partitions of our number, so nothing hangs there when this returns.
        """
        while places := await self._hanging(endings):
            await self._tell_again(ending, places)
            await endings.latest(self.transactional_id)

    async def _hanging(self, endings: Endings) -> list[TopicPartition]:
        """Where our producer has a transaction without an end, of all that it writes to."""
        hanging = await endings.hanging((*self._writes, *self._writes_anywhere))
        ours = set(self._writes)
        places = [p for p in hanging if p.topic not in ours or p.partition == self._partition]
        return await endings.open_of(self._producer_id, places) if places else []

    @property
    def _producer_id(self) -> int:
        number: int = self._producer._txn_manager.producer_id
        return number

    async def heard(self) -> None:
        """Returns when every partition of the latest transaction has heard that it is committed.

        Its marker may be a moment behind the commit; one that stays away is told again.
        Raises ``KafkaError`` when Kafka is away for ``start_ms_max``.
        """
        while self._unheard:
            await self._strike_off(self._settings.start_ms_max)
            if self._unheard and not await self._told():
                await asyncio.sleep(HEARD_POLL_S)

    async def look_whether_heard(self) -> None:
        """The same without waiting, now and then: an owner with nothing to write tells too."""
        if self._unheard:
            try:
                await self._strike_off(patience_ms=0)
            except KafkaError:
                return  # Kafka is away: at the next look.
            await self._told()

    async def _strike_off(self, patience_ms: int) -> None:
        """Takes those that have heard off the list.

        Where others write too, something of theirs may hide that ours has its end: leaders know.
        """
        endings = Endings(self._producer.client, patience_ms)
        stable = await endings.stable_ends(self._unheard)
        unheard = {tp: one for tp, one in self._unheard.items() if stable[tp] <= one.marker}
        shared = [place for place in unheard if place.topic in self._writes_anywhere]
        if shared:
            still = await endings.open_of(self._producer_id, shared)
            for place in set(shared).difference(still):
                del unheard[place]
        self._unheard = unheard

    async def _told(self) -> bool:
        """Tells those that had time to hear and have not. Whether there were any."""
        before = time.monotonic() - TELL_AGAIN_S
        late = [place for place, one in self._unheard.items() if one.since <= before]
        if not late:
            return False
        endings = Endings(self._producer.client, self._settings.start_ms_max)
        if await endings.latest(self.transactional_id) != "committed":
            self._unheard = {}  # Ended by somebody else: whatever comes next here is fenced.
            return True
        log.warning(
            "%s: %d partitions were not told that it is committed; telling them",
            self.transactional_id, len(late),
        )  # fmt: skip
        await self._tell_again("committed", late)
        await endings.latest(self.transactional_id)
        for place in late:
            self._unheard[place].since = time.monotonic()
        return True

    async def _tell_again(self, ending: Ending, places: Sequence[TopicPartition]) -> None:
        """Ends an empty transaction as the latest was: each partition gets the marker."""
        self._on_told_again(len(places))
        producer = self._producer
        await producer.begin_transaction()
        for place in sorted(places):
            producer._txn_manager.maybe_add_partition_to_txn(place)
        if ending == "committed":
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()

    async def _fence(self) -> None:
        settings = self._settings
        self._producer = AIOKafkaProducer(
            **client_settings(settings, self._client_name),
            transactional_id=self.transactional_id,
            transaction_timeout_ms=settings.transaction_timeout_ms,
            linger_ms=0,
            max_batch_size=settings.produce_batch_bytes,
            max_request_size=settings.produce_request_bytes_max,
            compression_type=compression_of(settings),
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnects. A transaction that is open times out or is fenced by the next owner."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def write(
        self, outputs: Iterable[Output], changelog: str, changes: Iterable[Change]
    ) -> int:
        """One transaction: outputs, then state changes.

        Returns the changelog's offset after it: after the commit marker, which is the next thing
        in a partition that nobody else writes to.

        Raises ``Fenced`` when another owner took the partition over.
        """
        try:
            return await self._write(outputs, changelog, changes)
        except FENCED_ERRORS as error:
            raise Fenced(f"{self.transactional_id} has a new owner") from error
        except TransactionalIdAuthorizationFailed as error:
            raise PermissionError(
                f"this worker's credentials may not write as {self.transactional_id}"
            ) from error

    async def _write(
        self, outputs: Iterable[Output], changelog: str, changes: Iterable[Change]
    ) -> int:
        point = self._crash_points.pass_through
        batches = self._pack_outputs(outputs)
        state = self._pack_changes(changes)
        await self.heard()
        point("before_begin")
        await self._producer.begin_transaction()
        point("after_begin")
        batches += [((changelog, self._partition), batch) for batch in state]
        acknowledged = [
            await self._producer.send_batch(batch, topic, partition=partition)
            for (topic, partition), batch in batches
        ]
        point("after_send")
        metadata = await asyncio.gather(*acknowledged)
        point("before_commit")
        await self._producer.commit_transaction()
        now = time.monotonic()
        for (place, batch), placed in zip(batches, metadata, strict=True):
            marker = int(placed.offset) + int(batch.record_count())
            self._unheard[TopicPartition(*place)] = Unheard(marker, now)
        point("after_commit")
        return int(metadata[-1].offset) + int(state[-1].record_count()) + MARKER

    # -- packing

    def _pack_outputs(self, outputs: Iterable[Output]) -> list[tuple[tuple[str, int], Any]]:
        own = self._partition
        rows: dict[tuple[str, int], list[Row]] = {}
        for output in outputs:
            place = output.topic, own if output.partition is None else output.partition
            headers = list(output.headers) if output.headers else NO_HEADERS
            row = output.key, output.value, output.timestamp_ms, headers
            if (of_place := rows.get(place)) is None:
                rows[place] = [row]
            else:
                of_place.append(row)
        return [
            (place, batch)
            for place, of_place in rows.items()
            for batch in self._packed(of_place, place[0])
        ]

    def _pack_changes(self, changes: Iterable[Change]) -> list[Any]:
        rows = ((key, value, None, NO_HEADERS) for key, value in changes)
        return self._packed(rows, "the changelog")

    def _packed(self, rows: Iterable[Row], where: str) -> list[Any]:
        new_batch = self._producer.create_batch
        return packed(new_batch, rows, self._settings.record_bytes_max, where)
