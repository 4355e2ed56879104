"""Trying dead letters again from their page: a second look first, then only its button does it.

The form on the listing is answered with what would be done; that page's form does it
(``streams/redrive.py``). Both need the scope ``operate`` and a token of ours.

Invariant: what was done is in the audit log, with the key's id; doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.api.problems import ProblemError, refuse
from streams.codec import Codec, DecodeError
from streams.engine.clients import client_settings
from streams.engine.settings import EngineSettings
from streams.redrive import Again, again_of, send_again
from streams.web.console.dead_letters import DeadLetterPages, masked_letter
from streams.web.console.frame import Frame
from streams.web.console.page import Visit

audit = logging.getLogger("flowstate.audit")
REDRIVE_MAX = 200
"""Letters that one form tries again; more at once is ``flowstate redrive``."""


class Redriving:
    """The two forms."""

    def __init__(
        self, letters: DeadLetterPages, engine: EngineSettings, frame: Frame, codec: Codec
    ) -> None:
        self._letters = letters
        self._engine = engine
        self._frame = frame
        self._codec = codec

    def routes(self) -> list[web.RouteDef]:
        """What the forms do."""
        return [
            web.post("/dead-letters/confirm", self.confirm),
            web.post("/dead-letters/redrive", self.redrive),
        ]

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
        letters = [self._letters.document(one) for one in await self._letters.log.at(places)]
        await self._letters.note(visit, letters)
        shown = letters if visit.may_reveal else [masked_letter(one) for one in letters]
        return self._frame.html(
            "redrive.html", visit.request, visit.asker, letters=shown, is_masked=False
        )

    async def _done(self, visit: Visit, places: Sequence[tuple[int, int]]) -> web.StreamResponse:
        again: list[Again] = []
        for one in await self._letters.log.at(places):
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
