"""The ledger's questions over HTTP, as JSON for machines.

``GET /v1/recipients/{id}/timeline?before=&limit=``, ``/v1/notifications/{id}`` (of a notification,
digest or delivery), ``/v1/events/{recipient}/{event_id}``, ``/v1/totals``, and with what
``ledger_questions.py`` reads from the query ``/v1/reasons`` and ``/v1/search``.

Whoever is asked answers: for a partition owned elsewhere it asks the owner, once. While a
partition has no owner, or its owner is catching up, the answer is 503 with ``Retry-After``, never
a stale or partial history. Totals are over all partitions and say whether any is missing.

Mounted on the aiohttp application behind Faust's web server, with plain aiohttp handlers: Faust's
``@app.page`` has no way to pass a response of another worker through as it is (its router drops
the body and has no hop guard), and these can be tested without a Faust app. Every look at a
person's history is recorded before it is answered, by whoever was asked first: ``ledger/looks.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from streams import topics
from streams.api.problems import ProblemError, refuse
from streams.api.problems import answer as problem_answer
from streams.core.ids import partition_of
from streams.engine.settings import EngineSettings
from streams.ledger.database import is_damage
from streams.ledger.directory import ledger_group
from streams.ledger.documents import Count, PartitionTotals, SearchPage, Totals
from streams.ledger.looks import OPEN, WHO, LookLog, LookNotRecorded
from streams.ledger.metrics import LedgerMetrics
from streams.ledger.queries import LedgerQueries
from streams.ledger.search import SearchQuestion, merged
from streams.ledger.settings import LedgerSettings
from streams.partitioning import partition_of_recipient
from streams.web import ledger_questions
from streams.web.access import Access, access_of
from streams.web.internal import HOP_HEADER, NOT_A_WORKER
from streams.web.owners import Owners
from streams.web.state_documents import KeptOfRecipient
from streams.web.worker_directory import WorkerDirectory, own_url

log = logging.getLogger(__name__)
Answer = Callable[[LedgerQueries], Any]
Asked = TypeVar("Asked")
Found = TypeVar("Found")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Damaged(Exception):  # noqa: N818 (a state, named for what it is)
    """A file of a partition's history cannot be read; what is in others can."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"a file of partition {partition}'s history is damaged, and this is in it; restore the"
            f" folder ledger/{partition} from a copy, or stop the worker and remove it, to have it"
            " read again from the topics as far back as they go"
        )


class _About(msgspec.Struct):
    """Whose story a trace is."""

    recipient_id: str
    subject_id: str


class LedgerWeb:
    """The pages of one ledger worker. A ``WorkerService``: started once, shared by all runners."""

    def __init__(
        self,
        settings: LedgerSettings,
        engine: EngineSettings,
        looks: LookLog,
        access: Access | None = None,
    ) -> None:
        """Without an ``access`` there are no keys: only this machine is answered."""
        self._looks = looks
        self._access = access or access_of("", settings.internal_secret, b"", 0)
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

    def mount(self, faust_app: Any) -> None:
        """Adds the pages to a worker's web server, and the metrics to its ``/metrics``."""
        self._faust_app = faust_app
        faust_app.engine.worker.metrics.registry.register(self.metrics)
        faust_app.web.web_app.add_routes(self.routes())

    def routes(self) -> list[web.RouteDef]:
        """The pages as aiohttp knows them."""
        return [
            web.get("/v1/recipients/{recipient_id}/timeline", self._guarded(self.timeline)),
            web.get("/v1/recipients/{recipient_id}/kept", self._guarded(self.kept)),
            web.get("/v1/notifications/{public_id}", self._guarded(self.notification)),
            web.get("/v1/events/{recipient_id}/{event_id}", self._guarded(self.event)),
            web.get("/v1/totals", self._guarded(self.totals)),
            web.get("/v1/reasons", self._guarded(self.reasons)),
            web.get("/v1/search", self._guarded(self.search)),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        """Only for whoever may read; and only a worker may say that it passes a question on."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                asker = self._access.require(request, "read")
                if HOP_HEADER in request.headers and asker.how not in ("worker", "open"):
                    raise refuse("forbidden", NOT_A_WORKER)
            except ProblemError as error:
                return problem_answer(error.problem)
            request[WHO] = asker.key.key_id
            return await handler(request)

        return handle

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

    # -------------------------------------------------------------------------------- the pages

    async def timeline(self, request: web.Request) -> web.Response:
        """A page of a recipient's history, newest first."""
        recipient_id = request.match_info["recipient_id"]
        before = request.query.get("before")
        limit = _whole(request, "limit", self._settings.timeline_rows_max)
        if (refused := await self._note(request, "timeline", recipient_id)) is not None:
            return refused
        partition = partition_of_recipient(recipient_id, self._engine.partitions)

        def answer(queries: LedgerQueries) -> Any:
            try:
                return queries.timeline(recipient_id, before, limit)
            except ValueError as error:
                raise _refusal(web.HTTPBadRequest, "'before' is not a cursor") from error

        return await self._answer("timeline", request, partition, answer)

    async def notification(self, request: web.Request) -> web.Response:
        """Trace of a notification, a digest, or what a delivery belongs to."""
        public_id = request.match_info["public_id"].replace("-", "").lower()
        try:
            partition = partition_of(public_id)
        except ValueError as error:
            raise _refusal(web.HTTPBadRequest, f"not an id of ours: {error}") from error
        if partition >= self._engine.partitions:
            raise _refusal(web.HTTPNotFound, f"there is no partition {partition}")
        answer = await self._answer(
            "notification", request, partition, lambda queries: queries.notification(public_id)
        )
        if answer.status != 200:
            return answer
        # Whose it is, only the answer says.
        about = msgspec.json.decode(bytes(answer.body or b""), type=_About)  # type: ignore[arg-type]
        refused = await self._note(request, "notification", about.recipient_id, about.subject_id)
        return refused or answer

    async def event(self, request: web.Request) -> web.Response:
        """Trace of an event of a recipient."""
        recipient_id = request.match_info["recipient_id"]
        event_id = request.match_info["event_id"]
        if (refused := await self._note(request, "event", recipient_id)) is not None:
            return refused
        partition = partition_of_recipient(recipient_id, self._engine.partitions)
        return await self._answer(
            "event", request, partition, lambda queries: queries.event(recipient_id, event_id)
        )

    async def kept(self, request: web.Request) -> web.Response:
        """Whether anything is kept of a recipient, and whether there is the mark ``?mark=HEX``."""
        recipient_id = request.match_info["recipient_id"]
        partition = partition_of_recipient(recipient_id, self._engine.partitions)
        try:
            mark = bytes.fromhex(request.query.get("mark", ""))
        except ValueError as error:
            raise _refusal(web.HTTPBadRequest, "'mark' must be hexadecimal") from error

        def answer(queries: LedgerQueries) -> KeptOfRecipient:
            has_rows, is_marked = queries.kept(recipient_id, mark)
            return KeptOfRecipient(["rows"] if has_rows else [], is_marked)

        return await self._answer("kept", request, partition, answer)

    async def totals(self, request: web.Request) -> web.Response:
        """Counts since the beginning, over all partitions."""
        return await self._everywhere("totals", request, lambda q: q.totals()[1])

    async def reasons(self, request: web.Request) -> web.Response:
        """Counts by hour or day, grouped as asked, over all partitions."""
        asked = _asked(ledger_questions.reasons_asked, request)
        return await self._everywhere("reasons", request, lambda q: q.reasons(asked))

    async def search(self, request: web.Request) -> web.Response:
        """Verdicts that fit, newest first, a page at a time."""
        asked = _asked(ledger_questions.search_asked, request)
        if asked.recipient_id is not None:
            refused = await self._note(request, "search", asked.recipient_id)
            if refused is not None:
                return refused
            partition = partition_of_recipient(asked.recipient_id, self._engine.partitions)
            return await self._answer("search", request, partition, lambda q: q.search(asked))
        is_hop = HOP_HEADER in request.headers
        page = await self.search_everywhere(request.raw_path, asked, is_hop=is_hop)
        for recipient_id in {hit.recipient_id for hit in page.hits}:
            refused = await self._note(request, "search", recipient_id)
            if refused is not None:
                return refused
        return _json(page)

    async def search_everywhere(
        self, path_and_query: str, asked: SearchQuestion, *, is_hop: bool = False
    ) -> SearchPage:
        """What fits in all partitions that answer. No look is recorded: see ``read``."""
        pages, ready = [], 0
        for queries, is_ready in list(self._mine.values()):
            if is_ready():
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

    # ------------------------------------------------------------------------------ who answers

    async def _answer(
        self, page: str, request: web.Request, partition: int, answer: Answer
    ) -> web.Response:
        is_hop = HOP_HEADER in request.headers
        response = await self.read(partition, request.raw_path, answer, is_hop=is_hop)
        self.metrics.queries.labels(page, str(response.status)).inc()
        return response

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
                return _json({"error": "nothing is recorded about it"}, status=404)
            return _json(found)
        if is_hop:
            return self._not_now(f"partition {partition} is not here any more")
        url = (await self._owners.all()).get(partition)
        if url is None or url == self.url:
            return self._not_now(f"partition {partition} has no owner")
        passed_on = await self._owners.ask(url, path_and_query)
        return passed_on or self._not_now(f"the owner of partition {partition} does not answer")

    async def _everywhere(
        self, page: str, request: web.Request, counts_of: Callable[[LedgerQueries], list[Count]]
    ) -> web.Response:
        """Local partitions, and those of every other worker unless asked by one."""
        is_hop = HOP_HEADER in request.headers
        totals = await self.read_everywhere(request.raw_path, counts_of, is_hop=is_hop)
        self.metrics.queries.labels(page, "200").inc()
        return _json(totals)

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
        for queries, is_ready in list(self._mine.values()):
            if is_ready():
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

    async def _note(
        self, request: web.Request, what: str, recipient_id: str, subject_id: str | None = None
    ) -> web.Response | None:
        """Records the look; the refusal when that was not possible."""
        if HOP_HEADER in request.headers:
            return None
        try:
            who = request.get(WHO, OPEN)
            await self._looks.note(who, what, recipient_id, subject_id=subject_id)
        except LookNotRecorded:
            return self._not_now("the look could not be recorded, so nothing is shown")
        return None

    def _not_now(self, why: str) -> web.Response:
        response = _json({"error": why, "retry_after_s": self._settings.retry_after_s}, status=503)
        response.headers["Retry-After"] = str(self._settings.retry_after_s)
        return response


def _add(counts: Counter[Count], more: list[Count]) -> None:
    for count in more:
        counts[msgspec.structs.replace(count, count=0)] += count.count


def _json(document: Any, status: int = 200) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def _refusal(kind: type[web.HTTPException], why: str) -> web.HTTPException:
    text = msgspec.json.encode({"error": why}).decode()
    return kind(text=text, content_type="application/json")


def _asked(read: Callable[[Mapping[str, str]], Asked], request: web.Request) -> Asked:
    try:
        return read(request.query)
    except ValueError as error:
        raise _refusal(web.HTTPBadRequest, str(error)) from error


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _refusal(web.HTTPBadRequest, f"'{name}' must be a whole number, not {text[:32]!r}")
    return int(text)
