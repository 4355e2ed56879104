"""Who answers a question to the ledger: this worker, the partition's owner, or all of them.

What is asked of one partition is answered by its owner: a question that was passed on once is never
passed on again. What is asked of all is put together from whoever answers, and says what is
missing. While a partition moves, catches up, or what is asked is in a damaged file, the answer is
503 with ``Retry-After``, never an old or partial history.

Invariant: nothing here records a look: whoever shows an answer to somebody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from streams import topics
from streams.engine.settings import EngineSettings
from streams.ledger.database import is_damage
from streams.ledger.directory import ledger_group
from streams.ledger.documents import Count, PartitionTotals, SearchPage, Totals
from streams.ledger.metrics import LedgerMetrics
from streams.ledger.queries import LedgerQueries
from streams.ledger.search import SearchQuestion, merged
from streams.ledger.settings import LedgerSettings
from streams.web.owners import Owners
from streams.web.worker_directory import WorkerDirectory, own_url

log = logging.getLogger(__name__)
Answer = Callable[[LedgerQueries], Any]
Found = TypeVar("Found")


class _Damaged(Exception):  # noqa: N818 (a state, named for what it is)
    """A file of a partition's history cannot be read; what is in others can."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"a file of partition {partition}'s history is damaged, and this is in it; restore the"
            f" folder ledger/{partition} from a copy, or stop the worker and remove it, to have it"
            " read again from the topics as far back as they go"
        )


class LedgerReading:
    """The partitions of one ledger worker, and its ways to the others."""

    def __init__(self, settings: LedgerSettings, engine: EngineSettings) -> None:
        self._settings = settings
        self._engine = engine
        self.metrics = LedgerMetrics()
        directory = WorkerDirectory(
            engine,
            ledger_group(engine.application),
            topics.DECISIONS,
            settings.proxy_timeout_ms,
            settings.owners_cached_ms,
        )
        self._owners = Owners(settings, directory, self.metrics)
        self._mine: dict[int, tuple[LedgerQueries, Callable[[], bool]]] = {}
        self._damaged: set[int] = set()
        """Partitions whose damage was said in the log."""
        self._faust_app: Any = None

    # ------------------------------------------------------------------------------- its owners

    async def start(self) -> None:
        """Called once before the first runner starts."""
        await self._owners.start()

    async def stop(self) -> None:
        """Called once after the last runner has stopped."""
        await self._owners.stop()

    def take_over(
        self, partition: int, queries: LedgerQueries, is_ready: Callable[[], bool]
    ) -> None:
        """From now on this worker answers for the partition, as soon as ``is_ready()``."""
        self._mine[partition] = (queries, is_ready)

    def give_up(self, partition: int) -> None:
        """The partition goes elsewhere. Its store may be closed right after."""
        self._mine.pop(partition, None)

    @property
    def hours_max(self) -> int:
        """How far back it counts when it is asked."""
        return self._settings.hours_asked_max

    @property
    def url(self) -> str:
        """Where other workers reach this one."""
        apps = [] if self._faust_app is None else [self._faust_app]
        return own_url(self._engine, apps)

    # ------------------------------------------------------------------------------ who answers

    async def read(
        self, partition: int, path_and_query: str, answer: Answer, *, is_hop: bool = False
    ) -> web.Response:
        """The owner's answer: this worker's, or another's to the same path. No look is recorded:
        whoever shows it to somebody does that."""
        mine = self._mine.get(partition)
        if mine is not None:
            queries, is_ready = mine
            if not is_ready():
                return self._not_now(f"partition {partition} is catching up")
            try:
                found = self._asked_of(queries, answer)
            except _Damaged as damaged:
                return self._not_now(str(damaged))
            if found is None:
                return json_response({"error": "nothing is recorded about it"}, status=404)
            return json_response(found)
        if is_hop:
            return self._not_now(f"partition {partition} is not here any more")
        url = (await self._owners.all()).get(partition)
        if url is None or url == self.url:
            return self._not_now(f"partition {partition} has no owner")
        passed_on = await self._owners.ask(url, path_and_query)
        return passed_on or self._not_now(f"the owner of partition {partition} does not answer")

    async def read_everywhere(
        self,
        path_and_query: str,
        counts_of: Callable[[LedgerQueries], list[Count]],
        *,
        is_hop: bool = False,
    ) -> Totals:
        """Counts over all partitions that answer."""
        states: dict[int, PartitionTotals] = {}
        counts: Counter[Count] = Counter()
        async for queries in self._ready_ones():
            with contextlib.suppress(_Damaged):
                found = self._asked_of(queries, counts_of)
                state, _ = queries.totals()
                states[state.partition] = state
                _add(counts, found)
        if not is_hop:
            owners = await self._owners.all()
            elsewhere = {url for p, url in owners.items() if p not in self._mine} - {self.url}
            asked: list[Awaitable[web.Response | None]] = [
                self._owners.ask(url, path_and_query) for url in sorted(elsewhere)
            ]
            for answer in await asyncio.gather(*asked):
                if answer is None or answer.status != 200 or not isinstance(answer.body, bytes):
                    continue
                other = msgspec.json.decode(answer.body, type=Totals)
                # A partition that has just moved may be in two answers: counted once, not twice.
                if states.keys().isdisjoint(state.partition for state in other.partitions):
                    states.update((state.partition, state) for state in other.partitions)
                    _add(counts, other.counts)
        return Totals(
            [states[partition] for partition in sorted(states)],
            [msgspec.structs.replace(key, count=n) for key, n in sorted(counts.items(), key=str)],
            len(states) == self._engine.partitions,
        )

    async def _ready_ones(self) -> AsyncIterator[LedgerQueries]:
        """This worker's partitions that answer; between two of them its other tasks go on."""
        for number in sorted(self._mine):
            await asyncio.sleep(0)
            mine = self._mine.get(number)  # It may have been given up, and closed, meanwhile.
            if mine is not None and mine[1]():
                yield mine[0]

    def _asked_of(self, queries: LedgerQueries, answer: Callable[[LedgerQueries], Found]) -> Found:
        """A store's answer. Raises ``_Damaged`` when a file of it cannot be read."""
        try:
            return answer(queries)
        except Exception as error:  # rocksdict raises bare exceptions
            if not is_damage(error):
                raise
            number = queries.store.partition
            self.metrics.damaged.inc()
            if number not in self._damaged:
                self._damaged.add(number)
                log.error("a file of partition %d of the ledger cannot be read: %s", number, error)
            raise _Damaged(number) from error

    async def search_everywhere(
        self, path_and_query: str, asked: SearchQuestion, *, is_hop: bool = False
    ) -> SearchPage:
        """What fits in all partitions that answer. No look is recorded: see ``read``."""
        pages, ready = [], 0
        async for queries in self._ready_ones():
            with contextlib.suppress(_Damaged):
                pages.append(self._asked_of(queries, lambda each: each.search(asked)))
                ready += 1
        if is_hop:
            return merged(pages, ready == len(self._mine))
        owners = await self._owners.all()
        elsewhere = {url for p, url in owners.items() if p not in self._mine} - {self.url}
        answers = await asyncio.gather(
            *(self._owners.ask(url, path_and_query) for url in sorted(elsewhere))
        )
        is_complete = ready == len(self._mine)
        is_complete &= len(owners.keys() | self._mine.keys()) >= self._engine.partitions
        for answer in answers:
            if answer is None or answer.status != 200 or not isinstance(answer.body, bytes):
                is_complete = False
            else:
                pages.append(msgspec.json.decode(answer.body, type=SearchPage))
                is_complete &= pages[-1].is_complete
        self.metrics.queries.labels("search", "200").inc()
        return merged(pages, is_complete)

    def _not_now(self, why: str) -> web.Response:
        response = json_response(
            {"error": why, "retry_after_s": self._settings.retry_after_s}, status=503
        )
        response.headers["Retry-After"] = str(self._settings.retry_after_s)
        return response


def _add(counts: Counter[Count], more: list[Count]) -> None:
    for count in more:
        counts[msgspec.structs.replace(count, count=0)] += count.count


def json_response(document: Any, status: int = 200) -> web.Response:
    """A document as JSON."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")
