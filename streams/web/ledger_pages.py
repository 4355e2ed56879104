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

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from streams.api.problems import ProblemError, refuse
from streams.api.problems import answer as problem_answer
from streams.core.ids import partition_of
from streams.engine.settings import EngineSettings
from streams.ledger.documents import Count
from streams.ledger.looks import OPEN, LookLog, LookNotRecorded
from streams.ledger.queries import LedgerQueries
from streams.ledger.settings import LedgerSettings
from streams.partitioning import partition_of_recipient
from streams.web import ledger_questions
from streams.web.access import Access, access_of
from streams.web.internal import HOP_HEADER, NOT_A_WORKER
from streams.web.ledger_reading import Answer, LedgerReading, json_response
from streams.web.state_documents import KeptOfRecipient

Asked = TypeVar("Asked")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WHO = web.RequestKey("who", str)
"""Id of the key that was shown with a request."""


class _About(msgspec.Struct):
    """Whose story a trace is."""

    recipient_id: str
    subject_id: str


class LedgerWeb(LedgerReading):
    """The pages of one ledger worker. A ``WorkerService``: started once, shared by all runners."""

    def __init__(
        self,
        settings: LedgerSettings,
        engine: EngineSettings,
        looks: LookLog,
        access: Access | None = None,
    ) -> None:
        """Without an ``access`` there are no keys: only this machine is answered."""
        super().__init__(settings, engine)
        self._looks = looks
        self._access = access or access_of("", settings.internal_secret, b"", 0)

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
        return json_response(page)

    # ------------------------------------------------------------------------------ who answers

    async def _answer(
        self, page: str, request: web.Request, partition: int, answer: Answer
    ) -> web.Response:
        is_hop = HOP_HEADER in request.headers
        response = await self.read(partition, request.raw_path, answer, is_hop=is_hop)
        self.metrics.queries.labels(page, str(response.status)).inc()
        return response

    async def _everywhere(
        self, page: str, request: web.Request, counts_of: Callable[[LedgerQueries], list[Count]]
    ) -> web.Response:
        """Local partitions, and those of every other worker unless asked by one."""
        is_hop = HOP_HEADER in request.headers
        totals = await self.read_everywhere(request.raw_path, counts_of, is_hop=is_hop)
        self.metrics.queries.labels(page, "200").inc()
        return json_response(totals)

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
