"""A look at a person through the API: recorded, or refused."""

from __future__ import annotations

from aiohttp import web

from streams.api.problems import refuse
from streams.api.routes import KEY
from streams.ledger.looks import LookLog, LookNotRecorded


async def noted(
    looks: LookLog, request: web.Request, what: str, recipient_id: str, revealed: bool = False
) -> None:
    """Records who looks at whom. Raises ``ProblemError`` (503) when it cannot be recorded."""
    try:
        await looks.note(request[KEY].key_id, what, recipient_id, revealed=revealed)
    except LookNotRecorded as error:
        detail = "The look could not be recorded, so nothing is shown."
        raise refuse("unavailable", detail, retry_after_s=1) from error
