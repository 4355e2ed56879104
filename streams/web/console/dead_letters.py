"""Dead letters, newest first: why, and what they were as far as they can be read.

Read straight from their topic (``dead_letter_log.py``); the cursor says where each partition goes
on. Trying them again is ``redriving.py``.

Invariants: a look reads at most ``dead_letters_scanned_max`` records; whose letters are shown is
recorded as a look at each of these people; what cannot be decoded is shown as bytes, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streams import topics
from streams.api.problems import refuse
from streams.api.routes import Parameter
from streams.codec import Codec, DecodeError
from streams.dead_letters import CAUSES
from streams.redrive import again_of
from streams.web.console.asking import Asking
from streams.web.console.dead_letter_log import DeadLetterLog, Letter
from streams.web.console.masking import masked
from streams.web.console.page import Page, Visit
from streams.web.settings import WebSettings

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


class DeadLetterPages:
    """The listing, and what its forms show of single letters."""

    def __init__(
        self, settings: WebSettings, asking: Asking, log: DeadLetterLog, codec: Codec
    ) -> None:
        self._settings = settings
        self._asking = asking
        self._codec = codec
        self.log = log

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

    async def load(self, visit: Visit) -> LettersDocument:
        """A page. Raises ``ProblemError``: 422, 503."""
        reason, recipient = visit.text("reason"), visit.request.query.get("recipient", "")
        limit = visit.whole("limit", self._settings.rows_max, 1, self._settings.rows_max)
        is_filtered = bool(reason or recipient)
        scanned_max = self._settings.dead_letters_scanned_max if is_filtered else limit
        # Transactions leave markers between letters: twice as many offsets hold as many letters.
        look = await self.log.before(_ends(visit.text("cursor")), 2 * scanned_max)
        shown: list[LetterDocument] = []
        taken: list[Letter] = []
        for one in look.newest(scanned_max):
            if len(shown) >= limit:
                break
            taken.append(one)
            document = self.document(one)
            if reason in ("", document.reason) and recipient in ("", document.recipient_id):
                shown.append(document)
        await self.note(visit, shown)
        rest = look.rest(taken)
        redriven = visit.text("redriven")
        return LettersDocument(
            letters=shown if visit.may_reveal else [masked_letter(one) for one in shown],
            cursor=_cursor(rest) if rest else None,
            total=look.total,
            reason=reason,
            recipient=recipient,
            scanned=len(taken),
            is_cut=is_filtered and len(taken) == scanned_max,
            is_masked=not visit.may_reveal,
            redriven=int(redriven) if redriven.isdigit() and len(redriven) < 9 else None,
        )

    async def note(self, visit: Visit, shown: Sequence[LetterDocument]) -> None:
        """Records a look at everybody whose letters are shown. Raises ``ProblemError`` (503)."""
        people = (one.recipient_id for one in shown if one.recipient_id)
        await self._asking.note_all(visit, "dead letters", people)

    # ------------------------------------------------------------------------------------- pieces

    def document(self, one: Letter) -> LetterDocument:
        """A letter as it is shown, unmasked."""
        try:
            letter = self._codec.decode("dead_letter", one.value)
        except DecodeError as error:
            return _unreadable(one, error, self._settings.value_bytes_max)
        value = letter["value"] or b""
        known = CAUSES.get(letter["reason"])
        decoded = letter["delivery"] or self._record(letter)
        is_record = letter["delivery"] is None
        return LetterDocument(
            place=f"{one.partition}/{one.offset}",
            dead_at_ms=letter["dead_at_ms"],
            reason=letter["reason"],
            sentence="" if known is None else known.meaning,
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


def masked_letter(one: LetterDocument) -> LetterDocument:
    """A letter for whoever may not see addresses and bodies."""
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
