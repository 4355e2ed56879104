"""``POST /v1/events``: one event, or up to a thousand, each answered on its own.

202 means that Kafka has acknowledged it on all in-sync replicas; anything else means that it was
not accepted. The id makes a resend harmless: the decide step drops the repeat. A request with an
``Idempotency-Key`` gets the answer it got before, its events without an id get ids made from the
key (so a resend to another process makes the same ones), and it asks the partition's owner whether
an id came before with another payload.

What 409 can know: this process' memory, and with an Idempotency-Key the owner's state. A conflict
that both miss is still never delivered: the decide step records it as ``conflict``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from streams.api import metrics
from streams.api.event_check import Ready, check
from streams.api.problems import CONTENT_TYPE, Problem, answer, problem, refuse
from streams.api.remembered import Answers, Events
from streams.api.routes import (
    ALLOWANCE,
    ITEMS,
    JSON,
    KEY,
    Parameter,
    Reply,
    Route,
    check_type,
    decode_body,
)
from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.core.policy import Policy
from streams.engine.log_writer import LogWriter, OutRecord, Placed, Written
from streams.engine.settings import EngineSettings
from streams.web.state_documents import EventDocument, SeenQuestion
from streams.wire.primitives import Writer

IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=255, pattern="^[!-~]+$")]


class EventAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event."""

    index: int
    status: int
    """202 accepted; else as the problem says."""
    event_id: str | None = None
    repeated: bool = False
    """It had been accepted before, exactly so: nothing was written again."""
    problem: Problem | None = None


class EventsAnswer(msgspec.Struct, frozen=True):
    """What became of the events of a request, in their order."""

    accepted: int
    refused: int
    items: list[EventAnswer]


Item = Ready | EventAnswer


class EventRoutes:
    """Takes events."""

    def __init__(
        self,
        settings: ApiSettings,
        engine: EngineSettings,
        policy: Callable[[], Policy],
        write: Writer,
        log: LogWriter,
        states: StateClient,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._partitions = engine.partitions
        self._policy = policy
        self._write = write
        self._log = log
        self._states = states
        self._now_ms = now_ms
        self._monotonic = monotonic
        age_ms = min(settings.remembered_ms, policy().dedupe_horizon_ms)
        self._events = Events(settings.remembered_events_max, age_ms)
        self._answers = Answers(settings.remembered_keys_max, age_ms)

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route(
                method="POST",
                path="/v1/events",
                operation="sendEvents",
                doc="Send one event, or up to 1,000 as an array; each is answered on its own.",
                handler=self.send,
                scope="produce",
                tag="events",
                parameters=(
                    Parameter(
                        "Idempotency-Key",
                        "header",
                        "The same on a resend of the same body: the answer is repeated, and events"
                        " without an id get one that is made from it.",
                        IdempotencyKey,
                    ),
                ),
                body=EventDocument | Annotated[list[EventDocument], Meta(min_length=1)],
                is_large=True,
                replies={
                    202: Reply(
                        "Acknowledged by all in-sync replicas.", (EventAnswer, EventsAnswer)
                    ),
                    207: Reply("Some were accepted; each says so.", EventsAnswer),
                    409: Reply("An id was accepted before with another payload.", EventsAnswer),
                    422: Reply("None can be accepted as it is.", EventsAnswer),
                    503: Reply("None was written; send them again.", EventsAnswer),
                },
                refusals=("conflict", "in_progress", "invalid", "key_reused", "unavailable"),
            )
        ]

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Takes the events of a request."""
        check_type(request, JSON)
        body = await request.read()
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return await self._send(request, body, None)
        try:
            msgspec.convert(key, IdempotencyKey)
        except msgspec.ValidationError as error:
            detail = "Idempotency-Key: 1 to 255 visible ASCII characters."
            raise refuse("malformed", detail) from error
        scoped = f"{request[KEY].key_id}\0{key}"
        name = hashlib.blake2b(scoped.encode(), digest_size=16).digest()
        body_hash = hashlib.blake2b(body, digest_size=16).digest()
        known = self._answers.begin(name, body_hash)
        if known is not None:
            if known.request_hash != body_hash:
                raise refuse("key_reused", "Use a new key for a new body.")
            if known.body is None:
                detail = "Wait for the answer to the first, or send it again a little later."
                raise refuse("in_progress", detail, retry_after_s=1)
            return _response(known.status, known.body)
        status, said = 0, b""
        try:
            response = await self._send(request, body, scoped)
            status, said = response.status, bytes(response.body)  # type: ignore[arg-type]
        finally:
            self._answers.end(name, body_hash, status, said)
        return response

    async def _send(self, request: web.Request, body: bytes, key: str | None) -> web.Response:
        is_batch = body.lstrip()[:1] == b"["
        raws = decode_body(body, list[msgspec.Raw]) if is_batch else [msgspec.Raw(body)]
        limit = self._settings.items_max
        if len(raws) > limit:
            raise refuse("too_large", f"At most {limit} events in one request, not {len(raws)}.")
        if not raws:
            raise refuse("invalid", "The array is empty: send at least one event.")
        request[ITEMS] = len(raws)
        wait_s = request[ALLOWANCE].take_events(len(raws), self._monotonic())
        if wait_s:
            rate = request[ALLOWANCE].limits.events_per_second
            detail = f"At most {rate:g} events a second; send them again later."
            raise refuse("too_many_requests", detail, retry_after_s=wait_s)
        items = self._checked(raws, key)
        if key is not None and self._settings.conflict_check == "owner":
            await self._ask_owners(items)
        await self._written(items)
        found = [item for item in items if isinstance(item, EventAnswer)]
        for item in found:
            what = "repeated" if item.repeated else "accepted" if item.status == 202 else "refused"
            metrics.EVENTS.labels(what).inc()
        return _of_batch(found, self._settings) if is_batch else _of_one(found[0], self._settings)

    # -------------------------------------------------------------------------------------- steps

    def _checked(self, raws: list[msgspec.Raw], key: str | None) -> list[Item]:
        """Each event ready to be written, or answered already."""
        now_ms, policy = self._now_ms(), self._policy()
        items: list[Item] = []
        here: dict[bytes, bytes] = {}
        for index, raw in enumerate(raws):
            made_id = None if key is None else _made_id(key, index)
            found = check(raw, made_id, now_ms, policy, self._partitions, self._write)
            if isinstance(found, tuple):
                event_id, wrong = found
                items.append(EventAnswer(index, wrong.status, event_id, problem=wrong))
                continue
            said = self._events.ask(found.id_hash, found.content)
            if here.setdefault(found.id_hash, found.content) != found.content:
                said = "conflict"
            if said == "new":
                items.append(found)
            else:
                items.append(_known(index, found, said == "conflict"))
        return items

    async def _ask_owners(self, items: list[Item]) -> None:
        """Answers what the owners of the partitions know to have come before."""
        places = [place for place, item in enumerate(items) if isinstance(item, Ready)]
        questions = []
        for place in places:
            item = items[place]
            assert isinstance(item, Ready)
            event = item.event
            questions.append(SeenQuestion(event.recipient_id, event.event_id, item.content.hex()))
        if not questions:
            return
        for place, said in zip(places, await self._states.seen(questions), strict=True):
            item = items[place]
            if said in ("duplicate", "conflict") and isinstance(item, Ready):
                items[place] = _known(place, item, said == "conflict")

    async def _written(self, items: list[Item]) -> None:
        """Writes what is ready, and answers it."""
        ready = [(place, item) for place, item in enumerate(items) if isinstance(item, Ready)]
        if not ready:
            return
        for _, item in ready:
            self._events.begin(item.id_hash, item.content)
        records = [OutRecord(item.topic, item.partition, item.key, item.value) for _, item in ready]
        written: list[Written] = []
        try:
            written = await self._log.write(records)
        finally:
            for place, (_, item) in enumerate(ready):
                is_there = place < len(written) and isinstance(written[place], Placed)
                self._events.end(item.id_hash, item.content, is_there)
        for (index, item), said in zip(ready, written, strict=True):
            items[index] = self._answer(index, item.event.event_id, said)

    def _answer(self, index: int, event_id: str, said: Written) -> EventAnswer:
        if isinstance(said, Placed):
            return EventAnswer(index, 202, event_id)
        if said.too_large:
            wrong = problem("too_large", "Kafka does not take a record of this size.")
        else:
            wrong = problem(
                "unavailable",
                "Kafka did not acknowledge it: send it again with the same event_id.",
                retry_after_s=self._settings.retry_after_s,
            )
        return EventAnswer(index, wrong.status, event_id, problem=wrong)


def _known(index: int, item: Ready, is_conflict: bool) -> EventAnswer:
    event_id = item.event.event_id
    if not is_conflict:
        return EventAnswer(index, 202, event_id, repeated=True)
    wrong = problem("conflict", "Give another event another id; resend the same one unchanged.")
    return EventAnswer(index, wrong.status, event_id, problem=wrong)


def _made_id(key: str, index: int) -> str:
    return "key-" + hashlib.blake2b(f"{key}\0{index}".encode(), digest_size=16).hexdigest()


def _of_one(item: EventAnswer, settings: ApiSettings) -> web.Response:
    if item.problem is not None:
        return answer(item.problem)
    return _response(202, msgspec.json.encode(item))


def _of_batch(items: list[EventAnswer], settings: ApiSettings) -> web.Response:
    """202 when all are accepted, the common status when none is, else 207."""
    accepted = sum(item.status == 202 for item in items)
    statuses = {item.status for item in items}
    status = statuses.pop() if len(statuses) == 1 else 207
    if accepted == 0 and status == 207 and 503 not in statuses:
        status = 422
    document = EventsAnswer(accepted, len(items) - accepted, items)
    response = _response(status, msgspec.json.encode(document))
    if status == 503:
        response.headers["Retry-After"] = str(settings.retry_after_s)
    return response


def _response(status: int, body: bytes) -> web.Response:
    is_problem = body.startswith(b'{"type"')
    return web.Response(body=body, status=status, content_type=CONTENT_TYPE if is_problem else JSON)
