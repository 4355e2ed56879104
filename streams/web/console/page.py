"""What a page is: a path, what it shows, who may see it, and how it is listed and described.

A page's ``load`` returns a document, a plain struct. JSON is that document, the HTML template gets
it as ``doc``, CSV is its ``rows``, and OpenAPI describes its type: four views of one value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
from aiohttp import web

from streams.api.keys import Scope
from streams.api.problems import refuse
from streams.api.routes import Parameter, check_name
from streams.ledger.documents import TraceEntry
from streams.web.access import Asker

WHOLE_DIGITS_MAX = 15


class Visit:
    """One request for a page: who asks, and with what."""

    def __init__(self, request: web.Request, asker: Asker, arguments: Mapping[str, str]) -> None:
        self.request = request
        self.asker = asker
        self.arguments = arguments
        """Parts of the path, by name."""

    @property
    def may_reveal(self) -> bool:
        """Whether addresses and bodies are shown as they are."""
        return self.asker.may("reveal")

    @property
    def may_operate(self) -> bool:
        """Whether something may be done here, not only looked at."""
        return self.asker.may("operate")

    def text(self, name: str, default: str = "") -> str:
        """A parameter of the query, without blanks around it."""
        return self.request.query.get(name, default).strip()

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the query, kept within bounds. Raises ``ProblemError`` (422)."""
        text = self.text(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > WHOLE_DIGITS_MAX:
            raise refuse("invalid", f"{name} must be a whole number, not {text[:32]!r}.")
        return max(low, min(int(text), high))

    def recipient_id(self) -> str:
        """The recipient in the path. Raises ``ProblemError`` (422)."""
        found = self.arguments["recipient_id"]
        check_name("recipient_id", found)
        return found


Load = Callable[[Visit], Awaitable[Any]]
Rows = Callable[[Any], Iterable[Mapping[str, Any]]]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page."""

    path: str
    """As aiohttp writes it: ``/recipients/{recipient_id}``."""
    operation: str
    """Unique name, for OpenAPI and metrics."""
    title: str
    doc: str
    template: str
    document: Any
    """Type of what ``load`` returns."""
    load: Load
    scope: Scope = "read"
    parameters: tuple[Parameter, ...] = ()
    rows: Rows | None = None
    """Rows of the listing, for CSV; ``None`` for a page that lists nothing."""
    is_live: bool = False
    """Its block ``live`` is sent anew while the page is open."""
    in_navigation: bool = False


class Group(Protocol):
    """Some pages that belong together."""

    def pages(self) -> list[Page]:
        """Its pages."""


def entry_row(entry: TraceEntry) -> dict[str, Any]:
    """A verdict as a row of a listing."""
    return {
        "decided_at_ms": entry.decided_at_ms,
        "verdict": entry.verdict,
        "reason": entry.reason,
        "category": entry.category,
        "event_id": entry.event_id,
        "subject_id": entry.subject_id,
        "until_ms": entry.until_ms,
        "sentence": entry.sentence,
    }
