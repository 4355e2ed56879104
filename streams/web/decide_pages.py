"""What a decide worker answers the API: a recipient's state, changes to it, dry runs.

``GET  /v1/state/partitions``                         which partitions are answered for here
``GET  /v1/state/recipients/{id}``                    all that is remembered of a recipient
``GET  /v1/state/tables/state``                       pairs of the state table, page by page
``GET  /v1/state/recipients/{id}/preferences``        choices with their version
``POST /v1/state/recipients/{id}/preferences``        change them (``PreferencesChange``)
``GET  /v1/state/recipients/{id}/destinations``       addresses, unmasked: the API masks them
``GET  /v1/state/recipients/{id}/kept?mark=``         which parts there are, and a mark
``POST /v1/state/claims``                             which addresses are said to be a recipient's
``POST /v1/state/preview``                            what would become of an event, and why
``POST /v1/state/seen``                               did these event ids come before

A change is made here and not in the API, because this is the one place that every writer of a
recipient's choices passes: see ``preference_owner.py``.

Invariants: a partition answers only while it is owned and caught up; else the answer is 503 with
``Retry-After``, never an old state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec
from aiohttp import web

from streams import tables
from streams.api.problems import ProblemError, answer, of_http_exception, refuse
from streams.api.settings import DecideWebSettings
from streams.codec import Codec
from streams.core.model import RecipientState
from streams.core.policy import Policy
from streams.engine import fence
from streams.engine.api import StateView
from streams.engine.settings import EngineSettings
from streams.partitioning import partition_of_recipient
from streams.web import preference_rules
from streams.web.internal import NOT_A_WORKER, is_worker
from streams.web.preference_owner import Owned, PreferenceOwner, with_preferences
from streams.web.preview import preview, seen_before
from streams.web.recipient_view import recipient_document
from streams.web.state_documents import (
    ClaimsHeld,
    ClaimsQuestion,
    DestinationDocument,
    KeptOfRecipient,
    OwnedPartitions,
    PreferencesChange,
    PreviewRequest,
    RecipientDestinations,
    RecipientPreferences,
    SeenAnswers,
    SeenQuestions,
    SuppressionDocument,
)
from streams.web.table_view import ROWS_MAX, table_page

PATH = "/v1/state"

Wanted = TypeVar("Wanted")


@runtime_checkable
class Purging(Protocol):
    """A view on files of its own."""

    def purge(self, keys: Iterable[bytes]) -> None:
        """Takes what was deleted under these keys off the disk."""


class DecideWeb:
    """The pages of one decide worker. A ``WorkerService``: started once, shared by all runners."""

    def __init__(
        self,
        settings: DecideWebSettings,
        engine: EngineSettings,
        codec: Codec,
        policy: Callable[[], Policy],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._partitions = engine.partitions
        self._codec = codec
        self._is_stream = engine.clock == "stream"
        self._policy = policy
        self._now_ms = now_ms
        self._mine: dict[int, Owned] = {}
        self._changes = PreferenceOwner(settings, engine, codec, policy)

    @property
    def announce_ms(self) -> int:
        """How often a worker repeats which partitions it answers for."""
        return self._settings.announce_ms

    # ------------------------------------------------------------------------------- its owners

    async def start(self) -> None:
        """Called once before the first runner starts."""
        await self._changes.writer.start()

    async def stop(self) -> None:
        """Called once after the last runner has stopped."""
        await self._changes.writer.stop()

    def mount(self, faust_app: Any) -> None:
        """Adds the pages to a worker's web server, before it starts."""
        faust_app.web.web_app.add_subapp(PATH + "/", self.application())

    def application(self) -> web.Application:
        """The pages, relative to ``PATH``."""
        pages = web.Application(
            middlewares=[_problems], client_max_size=self._settings.body_bytes_max
        )
        pages.add_routes(
            [
                web.get("/partitions", self.partitions),
                web.get("/recipients/{recipient_id}", self.recipient),
                web.get("/tables/state", self.table),
                web.get("/recipients/{recipient_id}/preferences", self.preferences),
                web.post("/recipients/{recipient_id}/preferences", self.change_preferences),
                web.get("/recipients/{recipient_id}/destinations", self.destinations),
                web.get("/recipients/{recipient_id}/kept", self.kept),
                web.post("/claims", self.claims),
                web.post("/preview", self.preview),
                web.post("/seen", self.seen),
            ]
        )
        return pages

    def take_over(self, partition: int, view: StateView, is_ready: Callable[[], bool]) -> None:
        """From now on this worker answers for the partition, as soon as ``is_ready()``."""
        self._mine[partition] = Owned(partition, view, is_ready, self._changes.pending)

    async def give_up(self, partition: int) -> None:
        """The partition goes elsewhere; returns when no change of it is under way."""
        owned = self._mine.get(partition)
        if owned is not None:
            await owned.leave()
            del self._mine[partition]
            self._changes.pending.forget(partition)

    # -------------------------------------------------------------------------------- the pages

    async def partitions(self, request: web.Request) -> web.Response:
        """Which partitions are answered for here, and which soon."""
        self._authorize(request)
        ready = {number for number, owned in self._mine.items() if owned.answers}
        return _json(OwnedPartitions(sorted(ready), sorted(self._mine.keys() - ready)))

    async def recipient(self, request: web.Request) -> web.Response:
        """All that is remembered of a recipient, unmasked: the pages for people mask it."""
        owned, recipient_id = self._place(request)
        state, is_applied = owned.present(recipient_id)
        at_ms = self._clock_ms(owned)
        return _json(recipient_document(state, self._policy(), at_ms, is_applied))

    async def table(self, request: web.Request) -> web.Response:
        """Some pairs of the state table of one partition, unmasked."""
        self._authorize(request)
        query = request.query
        try:
            owned = self._of_partition(int(query.get("partition", "")))
            limit = int(query.get("limit", ROWS_MAX))
            page = table_page(
                owned.view,
                self._codec,
                owned.partition,
                query.get("kind", "profile"),
                query.get("prefix", ""),
                query.get("after"),
                limit,
            )
        except ValueError as error:
            raise refuse("invalid", str(error)) from error
        return _json(page)

    async def preferences(self, request: web.Request) -> web.Response:
        """A recipient's choices."""
        owned, recipient_id = self._place(request)
        return _choices(*owned.present(recipient_id))

    async def change_preferences(self, request: web.Request) -> web.Response:
        """Makes a change, once it is acknowledged; 412 when the version is another."""
        owned, recipient_id = self._place(request)
        change = await _body(request, PreferencesChange)
        return _choices(*await self._changes.change(owned, recipient_id, change))

    async def destinations(self, request: web.Request) -> web.Response:
        """A recipient's addresses, as they are."""
        owned, recipient_id = self._place(request)
        found = [
            DestinationDocument(
                d.destination_id, d.kind, d.address, d.registered_at_ms, d.attributes
            )
            for d in owned.state(recipient_id).profile.destinations
        ]
        return _json(RecipientDestinations(recipient_id, found))

    async def kept(self, request: web.Request) -> web.Response:
        """Which parts there are of a recipient, and whether there is the mark ``?mark=HEX``.

        Of somebody who was forgotten nothing is left in the database's files either, once this is
        answered: RocksDB keeps what was deleted until it next has a reason to rewrite a file.
        """
        owned, recipient_id = self._place(request)
        try:
            mark = bytes.fromhex(request.query.get("mark", ""))
        except ValueError as error:
            raise refuse("malformed", "mark must be hexadecimal.") from error
        key = recipient_id.encode()
        keys = [tables.PROFILE + key, tables.MOVING + key, tables.ACTIVITY + key]
        *parts, marked = owned.view.get_many([*keys, tables.FORGOTTEN + mark])
        names = ("profile", "moving", "activity")
        kept = [name for name, value in zip(names, parts, strict=True) if value is not None]
        if marked is not None and not kept:
            await _purge(owned, keys)
        return _json(KeptOfRecipient(kept, marked is not None))

    async def claims(self, request: web.Request) -> web.Response:
        """Which addresses a partition says are a recipient's; claims that were taken back are in
        none of its files once this is answered."""
        self._authorize(request)
        asked = await _body(request, ClaimsQuestion)
        owned = self._of_partition(asked.partition)
        keys = [tables.CLAIM + name.encode() for name in asked.address_hashes]
        held, gone = [], []
        for key, value in zip(keys, owned.view.get_many(keys), strict=True):
            if value is None:
                gone.append(key)
            elif self._codec.decode_claim(value).recipient_id == asked.recipient_id:
                held.append(key.removeprefix(tables.CLAIM).decode())
        await _purge(owned, gone)
        return _json(ClaimsHeld(held))

    async def preview(self, request: web.Request) -> web.Response:
        """What would become of an event. Changes nothing."""
        self._authorize(request)
        asked = await _body(request, PreviewRequest)
        recipient_id = asked.event.recipient_id
        state = self._owned(recipient_id).state(recipient_id)
        if asked.preferences is not None:
            state = with_preferences(state, preference_rules.to_model(asked.preferences, 0))
        now_ms = asked.at_ms if asked.at_ms is not None else self._now_ms()
        return _json(preview(state, asked.event, now_ms, self._policy()))

    async def seen(self, request: web.Request) -> web.Response:
        """Which event ids came before."""
        self._authorize(request)
        questions = (await _body(request, SeenQuestions)).items
        answers: list[Any] = ["unknown"] * len(questions)
        by_partition: dict[int, list[int]] = {}
        for place, question in enumerate(questions):
            partition = partition_of_recipient(question.recipient_id, self._partitions)
            by_partition.setdefault(partition, []).append(place)
        for partition, places in by_partition.items():
            owned = self._mine.get(partition)
            if owned is not None and owned.answers:
                asked = [questions[place] for place in places]
                found = seen_before(owned.view, asked, self._now_ms(), self._policy())
                for place, said in zip(places, found, strict=True):
                    answers[place] = said
        return _json(SeenAnswers(answers))

    # ------------------------------------------------------------------------------------- pieces

    def _place(self, request: web.Request) -> tuple[Owned, str]:
        self._authorize(request)
        recipient_id = request.match_info["recipient_id"]
        return self._owned(recipient_id), recipient_id

    def _clock_ms(self, owned: Owned) -> int:
        """The partition's clock: the wall, or on stream time where the records have got to."""
        if not self._is_stream:
            return self._now_ms()
        (value,) = owned.view.get_many([tables.FENCE])
        return 0 if value is None else fence.decode(value).clock_ms

    def _owned(self, recipient_id: str) -> Owned:
        return self._of_partition(partition_of_recipient(recipient_id, self._partitions))

    def _of_partition(self, partition: int) -> Owned:
        owned = self._mine.get(partition)
        if owned is None or not owned.answers:
            why = "is not here" if owned is None or owned.is_leaving else "is catching up"
            raise refuse(
                "unavailable",
                f"Partition {partition} {why}.",
                retry_after_s=self._settings.retry_after_s,
            )
        return owned

    def _authorize(self, request: web.Request) -> None:
        if not is_worker(request, self._settings.internal_secret):
            raise refuse("unauthenticated", NOT_A_WORKER)


async def _purge(owned: Owned, keys: list[bytes]) -> None:
    if keys and isinstance(owned.view, Purging):
        with owned:  # The partition is not given up meanwhile.
            await asyncio.to_thread(owned.view.purge, keys)


def _choices(state: RecipientState, is_applied: bool) -> web.Response:
    profile = state.profile
    version = preference_rules.etag(profile.preferences)
    document = RecipientPreferences(
        state.recipient_id,
        preference_rules.to_document(profile.preferences),
        version,
        [SuppressionDocument(s.scope, s.reason, s.at_ms, s.until_ms) for s in profile.suppressions],
        is_applied,
    )
    return _json(document, {"ETag": version})


async def _body(request: web.Request, wanted: type[Wanted]) -> Wanted:
    try:
        return msgspec.json.decode(await request.read(), type=wanted)
    except msgspec.ValidationError as error:
        found = preference_rules.field_error(error)
        raise refuse("invalid", found.detail, [found]) from error
    except msgspec.DecodeError as error:
        raise refuse("malformed", str(error)) from error


def _json(document: Any, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, content_type="application/json", headers=headers)


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals as problem details."""
    try:
        return await handler(request)
    except ProblemError as error:
        return answer(error.problem, error.headers)
    except web.HTTPException as error:
        return answer(of_http_exception(error))
