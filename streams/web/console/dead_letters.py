"""Dead letters, newest first: why, what they were as far as they can be read, and trying again.

Read straight from their topic, backwards from its end: a page takes the newest of all partitions,
the cursor says where each partition goes on. Trying again needs the scope ``operate`` and a second
look: the form is answered with what would be done, and only that page's button does it.

Invariants: a look reads at most ``dead_letters_scanned_max`` records; whose letters are shown is
recorded as a look at each of these people; what cannot be decoded is shown as bytes, never skipped.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams import topics
from streams.api.problems import ProblemError, refuse
from streams.api.routes import Parameter
from streams.codec import Codec, DecodeError
from streams.core.reasons import REASONS
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings
from streams.redrive import Again, again_of, send_again
from streams.web.console.asking import Asking
from streams.web.console.frame import Frame
from streams.web.console.masking import masked
from streams.web.console.page import Page, Visit
from streams.web.settings import WebSettings

audit = logging.getLogger("flowstate.audit")
READ_S_MAX = 5.0
POLL_MS = 200
REDRIVE_MAX = 200
"""Letters that one form tries again; more at once is ``flowstate redrive``."""
PARAMETERS = (
    Parameter("reason", "query", "Only letters with this reason."),
    Parameter("recipient", "query", "Only this recipient's."),
    Parameter("cursor", "query", "Go on here: the cursor of the page before."),
    Parameter("limit", "query", "How many at most.", int),
)


class LetterDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter."""

    place: str
    """``partition/offset`` in ``dead-letters``."""
    dead_at_ms: int
    reason: str
    sentence: str
    detail: str
    recipient_id: str | None
    topic: str
    partition: int
    offset: int
    """Where the record was that it is about."""
    kind: str
    """``delivery`` or ``record``."""
    decoded: Any
    """The delivery, or the record as its topic's schema reads it; ``None`` where it cannot be."""
    value_hex: str
    value_bytes: int
    can_redrive: bool


class LettersDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters."""

    letters: list[LetterDocument]
    cursor: str | None
    total: int
    """Records between the topic's beginnings and ends: about how many letters there are."""
    reason: str
    recipient: str
    scanned: int
    is_cut: bool
    """The look ended at its bound; the cursor goes on."""
    is_masked: bool
    redriven: int | None = None


class Letter(msgspec.Struct, frozen=True):
    """A record of the topic."""

    partition: int
    offset: int
    value: bytes | None
    timestamp_ms: int


class Look(msgspec.Struct, frozen=True):
    """Some letters, newest first, and where a next look goes on."""

    letters: list[Letter]
    ends: dict[int, int]
    """Partition -> offset before which was looked."""
    starts: dict[int, int]
    """Partition -> offset from which was looked; 0 where that is the beginning."""
    total: int
    floor_ms: int = 0
    """What is older than this may not be next: a partition was not read so far back."""

    def newest(self, count: int) -> list[Letter]:
        """At most ``count`` of the letters, in order and with none left out between them."""
        sure = [one for one in self.letters if one.timestamp_ms >= self.floor_ms]
        return (sure or self.letters[:1])[:count]

    def rest(self, taken: Sequence[Letter]) -> dict[int, int]:
        """Where to go on when only ``taken``, the first of them, were of use."""
        found = dict(self.ends)
        for one in taken:
            found[one.partition] = one.offset
        left = {one.partition for one in self.letters[len(taken) :]}
        found.update({p: start for p, start in self.starts.items() if p not in left})
        return {partition: end for partition, end in found.items() if end}


class DeadLetterLog:
    """Reads ``dead-letters`` backwards. One look at a time."""

    def __init__(
        self, engine: EngineSettings, partitions: int, topic: str = topics.DEAD_LETTERS
    ) -> None:
        self._engine = engine
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer: Any = None
        self._turn = asyncio.Lock()

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def before(self, ends: dict[int, int] | None, count: int) -> Look:
        """At most ``count`` letters of each partition in ``ends``, before them; of every one before
        the topic's end, without. Raises ``ProblemError`` (503)."""
        async with self._turn:
            try:
                async with asyncio.timeout(READ_S_MAX):
                    return await self._read(ends, count)
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                raise refuse(
                    "unavailable", "Kafka did not give the dead letters in time.", retry_after_s=1
                ) from error

    async def at(self, places: Sequence[tuple[int, int]]) -> list[Letter]:
        """The letters at these partitions and offsets, as far as they are there."""
        found = []
        for partition, offset in places:
            look = await self.before({partition: offset + 1}, 1)
            found += [one for one in look.letters if one.offset == offset]
        return found

    async def _read(self, ends: dict[int, int] | None, count: int) -> Look:
        consumer = await self._connected()
        begins = await consumer.beginning_offsets(self._places)
        last = await consumer.end_offsets(self._places)
        total = sum(last[place] - begins[place] for place in self._places)
        asked = {
            place: last[place] if ends is None else min(last[place], ends.get(place.partition, 0))
            for place in self._places
        }
        begin_at = {place: max(begins[place], asked[place] - count) for place in self._places}
        wanted = [place for place in self._places if asked[place] > begins[place]]
        found: dict[TopicPartition, list[Letter]] = {place: [] for place in wanted}
        if wanted:
            consumer.assign(wanted)
        for place in wanted:
            consumer.seek(place, begin_at[place])
        left = set(wanted)
        while left:
            batch = await consumer.getmany(*left, timeout_ms=POLL_MS)
            for place, records in batch.items():
                found[place] += [
                    Letter(place.partition, record.offset, record.value, record.timestamp)
                    for record in records
                    if record.offset < asked[place]
                ]
            for place in list(left):
                if await consumer.position(place) >= asked[place]:
                    left.discard(place)
        newest_first = [letters[::-1] for letters in found.values()]
        oldest = [
            letters[0].timestamp_ms
            for place, letters in found.items()
            if letters and begin_at[place] > begins[place]
        ]
        return Look(
            list(heapq.merge(*newest_first, key=lambda one: one.timestamp_ms, reverse=True)),
            {place.partition: asked[place] for place in wanted},
            {
                place.partition: 0 if begin_at[place] == begins[place] else begin_at[place]
                for place in wanted
            },
            total,
            max(oldest, default=0),
        )

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **client_settings(self._engine, "dead-letters-page"),
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
            await consumer.start()
            self._consumer = consumer
        return self._consumer


class DeadLetterPages:
    """The listing, the confirmation, and trying again."""

    def __init__(
        self, settings: WebSettings, engine: EngineSettings, asking: Asking, frame: Frame,
        codec: Codec,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._engine = engine
        self._asking = asking
        self._frame = frame
        self._codec = codec
        self._log = DeadLetterLog(engine, asking.partitions)

    async def stop(self) -> None:
        """Disconnects."""
        await self._log.stop()

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/dead-letters",
                operation="dead_letters",
                title="Dead letters",
                doc="What could not be decided or delivered, newest first.",
                template="dead_letters.html",
                document=LettersDocument,
                load=self.load,
                rows=rows,
                parameters=PARAMETERS,
                in_navigation=True,
            )
        ]

    def routes(self) -> list[web.RouteDef]:
        """What its forms do."""
        return [
            web.post("/dead-letters/confirm", self.confirm),
            web.post("/dead-letters/redrive", self.redrive),
        ]

    async def load(self, visit: Visit) -> LettersDocument:
        """A page. Raises ``ProblemError``: 422, 503."""
        reason, recipient = visit.text("reason"), visit.request.query.get("recipient", "")
        limit = visit.whole("limit", self._settings.rows_max, 1, self._settings.rows_max)
        is_filtered = bool(reason or recipient)
        scanned_max = self._settings.dead_letters_scanned_max if is_filtered else limit
        # Transactions leave markers between letters: twice as many offsets hold as many letters.
        look = await self._log.before(_ends(visit.text("cursor")), 2 * scanned_max)
        shown: list[LetterDocument] = []
        taken: list[Letter] = []
        for one in look.newest(scanned_max):
            if len(shown) >= limit:
                break
            taken.append(one)
            document = self._document(one)
            if reason in ("", document.reason) and recipient in ("", document.recipient_id):
                shown.append(document)
        await self._note(visit, shown)
        rest = look.rest(taken)
        redriven = visit.text("redriven")
        return LettersDocument(
            letters=shown if visit.may_reveal else [_masked(one) for one in shown],
            cursor=_cursor(rest) if rest else None,
            total=look.total,
            reason=reason,
            recipient=recipient,
            scanned=len(taken),
            is_cut=is_filtered and len(taken) == scanned_max,
            is_masked=not visit.may_reveal,
            redriven=int(redriven) if redriven.isdigit() and len(redriven) < 9 else None,
        )

    async def _note(self, visit: Visit, shown: Sequence[LetterDocument]) -> None:
        people = (one.recipient_id for one in shown if one.recipient_id)
        await self._asking.note_all(visit, "dead letters", people)

    # ------------------------------------------------------------------------------------ redrive

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """What would be done; its button does it."""
        return await self._form(request, self._confirmed)

    async def redrive(self, request: web.Request) -> web.StreamResponse:
        """Does it."""
        return await self._form(request, self._done)

    async def _form(self, request: web.Request, answer: Any) -> web.StreamResponse:
        try:
            visit = self._frame.visit(request, "operate")
            fields = await self._frame.form(request, visit.asker)
            places = _places(fields.get("place", []))
            response: web.StreamResponse = await answer(visit, places)
        except ProblemError as error:
            return self._frame.refusal(request, "html", error.problem, error.headers)
        return response

    async def _confirmed(
        self, visit: Visit, places: Sequence[tuple[int, int]]
    ) -> web.StreamResponse:
        letters = [self._document(one) for one in await self._log.at(places)]
        await self._note(visit, letters)
        shown = letters if visit.may_reveal else [_masked(one) for one in letters]
        return self._frame.html(
            "redrive.html", visit.request, visit.asker, letters=shown, is_masked=False
        )

    async def _done(self, visit: Visit, places: Sequence[tuple[int, int]]) -> web.StreamResponse:
        again: list[Again] = []
        for one in await self._log.at(places):
            try:
                letter = self._codec.decode("dead_letter", one.value)
            except DecodeError:
                continue
            made = again_of(self._codec, letter, one.partition, one.offset)
            if made is not None:
                again.append(made)
        try:
            sent = await send_again(again, client_settings(self._engine, "redrive-page"))
        except KafkaError as error:
            raise refuse(
                "unavailable",
                "Kafka did not acknowledge all of them. Trying again once more is safe: what was"
                " sent already changes nothing.",
                retry_after_s=1,
            ) from error
        audit.info("%d dead letters tried again by key %s", sent, visit.asker.key.key_id)
        raise web.HTTPSeeOther(f"/dead-letters?redriven={sent}")

    # ------------------------------------------------------------------------------------- pieces

    def _document(self, one: Letter) -> LetterDocument:
        try:
            letter = self._codec.decode("dead_letter", one.value)
        except DecodeError as error:
            return _unreadable(one, error, self._settings.value_bytes_max)
        value = letter["value"] or b""
        known = REASONS.get(letter["reason"])
        decoded = letter["delivery"] or self._record(letter)
        is_record = letter["delivery"] is None
        return LetterDocument(
            place=f"{one.partition}/{one.offset}",
            dead_at_ms=letter["dead_at_ms"],
            reason=letter["reason"],
            sentence="" if known is None or "{" in known.sentence else known.sentence,
            detail=letter["detail"],
            recipient_id=letter["recipient_id"],
            topic=letter["topic"],
            partition=letter["partition"],
            offset=letter["offset"],
            kind="record" if is_record else "delivery",
            decoded=decoded,
            value_hex=value[: self._settings.value_bytes_max].hex(),
            value_bytes=len(value),
            can_redrive=again_of(self._codec, letter, one.partition, one.offset) is not None,
        )

    def _record(self, letter: dict[str, Any]) -> Any:
        """The record as its topic's schema reads it, where it does."""
        spec = topics.BY_NAME.get(letter["topic"])
        if spec is None or spec.schema is None or letter["value"] is None:
            return None
        try:
            return self._codec.decode(spec.schema, letter["value"])
        except DecodeError:
            return None


def _unreadable(one: Letter, error: DecodeError, bytes_max: int) -> LetterDocument:
    value = one.value or b""
    return LetterDocument(
        place=f"{one.partition}/{one.offset}", dead_at_ms=one.timestamp_ms, reason="unreadable",
        sentence="The dead letter itself cannot be read.", detail=str(error), recipient_id=None,
        topic=topics.DEAD_LETTERS, partition=one.partition, offset=one.offset, kind="record",
        decoded=None, value_hex=value[:bytes_max].hex(), value_bytes=len(value), can_redrive=False,
    )  # fmt: skip


def _masked(one: LetterDocument) -> LetterDocument:
    detail = "" if one.reason == "unreadable" else one.detail
    return msgspec.structs.replace(one, decoded=masked(one.decoded), value_hex="", detail=detail)


def _cursor(ends: dict[int, int]) -> str:
    return ".".join(f"{partition}-{end}" for partition, end in sorted(ends.items()))


def _ends(cursor: str) -> dict[int, int] | None:
    """Where each partition goes on. Raises ``ProblemError`` (422)."""
    if not cursor:
        return None
    try:
        pairs = [part.split("-") for part in cursor.split(".")]
        return {int(partition): int(end) for partition, end in pairs}
    except ValueError as error:
        raise refuse("invalid", "cursor is not one of ours.") from error


def _places(named: Sequence[str]) -> list[tuple[int, int]]:
    """Partitions and offsets of a form. Raises ``ProblemError`` (422)."""
    if not named:
        raise refuse("invalid", "Choose at least one dead letter.")
    if len(named) > REDRIVE_MAX:
        raise refuse("invalid", f"At most {REDRIVE_MAX} at once; `flowstate redrive` takes all.")
    try:
        pairs = [place.split("/") for place in named]
        return [(int(partition), int(offset)) for partition, offset in pairs]
    except ValueError as error:
        raise refuse("invalid", "place must be partition/offset.") from error


def rows(document: LettersDocument) -> Iterable[dict[str, Any]]:
    """Letters for CSV."""
    for one in document.letters:
        yield {
            "place": one.place,
            "dead_at_ms": one.dead_at_ms,
            "reason": one.reason,
            "detail": one.detail,
            "recipient_id": one.recipient_id,
            "kind": one.kind,
            "topic": one.topic,
            "partition": one.partition,
            "offset": one.offset,
            "value_bytes": one.value_bytes,
            "can_redrive": one.can_redrive,
        }
