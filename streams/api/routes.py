"""A route as one value: path, handler, who may call it, what goes in and comes out.

The server registers handlers from these, and OpenAPI is generated from the same values, so the
description cannot say anything else than what is served. ``read_body`` is the only way in which a
handler reads JSON: what it accepts is what the route declares.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web

from streams.api.keys import ApiKey, Scope
from streams.api.limits import Allowance
from streams.api.problems import refuse
from streams.web.preference_rules import field_error
from streams.web.state_documents import Name

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Wanted = TypeVar("Wanted")

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
FORM = "application/x-www-form-urlencoded"
KEY = web.RequestKey("key", ApiKey)
ALLOWANCE = web.RequestKey("allowance", Allowance)
ITEMS = web.RequestKey("items", int)
"""How many events a request had, for the access log."""
BODY_BYTES = web.RequestKey("body_bytes", int)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter. ``schema`` is a type that msgspec can describe."""

    name: str
    place: Literal["path", "query", "header"]
    doc: str
    schema: Any = str
    required: bool = False


class Reply(msgspec.Struct, frozen=True):
    """One kind of answer; ``schema`` is ``None`` for no JSON body, a tuple for one of several."""

    doc: str
    schema: Any = None
    content_type: str = JSON
    headers: dict[str, str] = {}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the API."""

    method: str
    path: str
    operation: str
    """Unique name, as clients generated from OpenAPI call it."""
    doc: str
    handler: Handler
    scope: Scope | None
    """``None``: needs no key, because the caller proves itself otherwise."""
    tag: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """Type of the body; ``None`` for none."""
    body_types: tuple[str, ...] = (JSON,)
    body_required: bool = True
    is_large: bool = False
    """Takes bodies up to ``body_bytes_max``; others are small."""
    replies: dict[int, Reply] = {}
    refusals: tuple[str, ...] = ()
    """Kinds of problems (``problems.KINDS``) beyond those that any route may answer."""
    is_hidden: bool = False
    """Left out of OpenAPI: pages for people."""


RECIPIENT = Parameter("recipient_id", "path", "Whom it is about.", Name, required=True)


async def read_body(request: web.Request, wanted: type[Wanted], *types: str) -> Wanted:
    """The body as ``wanted``. Raises ``ProblemError``: 400, 415, 422."""
    check_type(request, *(types or (JSON,)))
    return decode_body(await request.read(), wanted)


def decode_body(data: bytes, wanted: type[Wanted]) -> Wanted:
    """JSON as ``wanted``. Raises ``ProblemError``: 400, 422."""
    try:
        return msgspec.json.decode(data, type=wanted)
    except msgspec.ValidationError as error:
        found = field_error(error)
        raise refuse("invalid", found.detail, [found]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse("malformed", f"The body is not JSON: {error}") from error


def check_type(request: web.Request, *types: str) -> None:
    """Raises 415 for a content type that is not read here.

    It is also what keeps a page of somebody else from posting with a browser's hands: a browser
    sends JSON across origins only when it is allowed to.
    """
    if request.content_type not in types:
        raise refuse("unsupported_media_type", f"Send Content-Type: {' or '.join(types)}.")


def reply(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A document as JSON."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def recipient_of(request: web.Request) -> str:
    """The recipient in the path. Raises 422 for what cannot be one."""
    recipient_id = request.match_info["recipient_id"]
    check_name("recipient_id", recipient_id)
    return recipient_id


def check_name(field: str, value: str) -> None:
    """Raises 422 for an id that could never have been accepted."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise refuse("invalid", f"{field} is not UTF-8.") from None
    if not 1 <= size <= 256:
        raise refuse("invalid", f"{field} must have 1 to 256 bytes.")
