"""Refusals as RFC 9457 problem details: what is wrong and what to change, for programs and people.

Every refusal of the API has a ``type`` from the table below, so that a client can react without
reading sentences, and a ``detail`` that says what would be right. ``docs`` and OpenAPI list the
same table.

Invariant: nothing of a request's personal data is repeated in a problem, except the names of
fields and short values that the sender has just sent.

Source: https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:flowstate:problem:"
ERRORS_MAX = 20


class Kind(msgspec.Struct, frozen=True):
    """One type of problem."""

    status: int
    title: str


KINDS: dict[str, Kind] = {
    "malformed": Kind(400, "The request cannot be read"),
    "bad_token": Kind(400, "The link is not one of ours, or was changed"),
    "unauthenticated": Kind(401, "A valid API key is needed"),
    "bad_signature": Kind(401, "The signature does not fit"),
    "forbidden": Kind(403, "The API key has not the scope that this needs"),
    "not_found": Kind(404, "There is no such thing"),
    "method_not_allowed": Kind(405, "This path does not take this method"),
    "conflict": Kind(409, "The same id was accepted before with another payload"),
    "too_late": Kind(409, "It was handed over before it could be withdrawn"),
    "in_progress": Kind(409, "A request with this Idempotency-Key is still under way"),
    "expired_link": Kind(410, "The link is too old"),
    "precondition_failed": Kind(412, "It was changed by somebody else meanwhile"),
    "too_large": Kind(413, "The request is too large"),
    "unsupported_media_type": Kind(415, "This content type is not read here"),
    "invalid": Kind(422, "The request is understood and cannot be accepted as it is"),
    "key_reused": Kind(422, "This Idempotency-Key was used with another body"),
    "precondition_required": Kind(428, "If-Match is needed here"),
    "too_many_requests": Kind(429, "The key's allowance is used up for now"),
    "internal": Kind(500, "A mistake of ours"),
    "unavailable": Kind(503, "Not possible at the moment"),
}


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong: where, and what would be right."""

    detail: str
    pointer: str = ""
    """JSON pointer into the body (RFC 6901)."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal. ``detail`` says what to change."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] = []
    retry_after_s: int | None = None


def problem(
    kind: str,
    detail: str = "",
    errors: list[FieldError] | None = None,
    retry_after_s: int | None = None,
) -> Problem:
    """A problem of a type of the table."""
    about = KINDS[kind]
    return Problem(
        TYPE_PREFIX + kind,
        about.title,
        about.status,
        detail,
        (errors or [])[:ERRORS_MAX],
        retry_after_s,
    )


class ProblemError(Exception):
    """Ends a handler with a problem; the middleware turns it into the answer."""

    def __init__(self, refused: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(refused.title)
        self.problem = refused
        self.headers = headers or {}


def refuse(
    kind: str,
    detail: str = "",
    errors: list[FieldError] | None = None,
    retry_after_s: int | None = None,
    headers: dict[str, str] | None = None,
) -> ProblemError:
    """``raise refuse("not_found", ...)``."""
    return ProblemError(problem(kind, detail, errors, retry_after_s), headers)


def answer(refused: Problem, headers: dict[str, str] | None = None) -> web.Response:
    """The problem as a response."""
    response = web.Response(
        body=msgspec.json.encode(refused), status=refused.status, content_type=CONTENT_TYPE
    )
    response.headers.update({**headers_of(refused), **(headers or {})})
    return response


def headers_of(refused: Problem) -> dict[str, str]:
    """What a problem says in headers, whatever its body looks like."""
    headers = {}
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="flowstate"'
    return headers


def of_http_exception(error: web.HTTPException) -> Problem:
    """A problem for what aiohttp itself refuses: unknown paths, methods, bodies that are cut."""
    kinds = {kind.status: name for name, kind in reversed(KINDS.items())}
    kind = kinds.get(error.status, "internal" if error.status >= 500 else "malformed")
    details = {
        404: "No such path; GET /v1/openapi.json lists them all.",
        405: "See the Allow header for the methods that this path takes.",
        413: "Send fewer events in one request.",
    }
    found = problem(kind, details.get(error.status, ""))
    return msgspec.structs.replace(found, status=error.status)
