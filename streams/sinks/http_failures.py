"""What it means that pyreqwest gave no answer: was the request written, or can it not have been?

Its exception *classes* do not say whether a request was written: a reset after the request is a
``ConnectError`` and a deadline missed while waiting for the answer is a ``ConnectTimeoutError``.
The list of causes does, so that is what is read here (``tests/sinks/test_http_client.py`` pins it).
Only two things are taken as "never processed": a failure to connect, and HTTP/2's own statement
(REFUSED_STREAM, or GOAWAY for streams above the last one it took: RFC 9113 §6.8, §8.7). hyper has
then already tried again on its own, which is safe for the same reason. All else is ambiguous.

Invariant: only what the peer itself, or a connection that never was, says counts as "not sent".
"""

from __future__ import annotations

from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, RequestTimeoutError

from streams.sinks.base import Failure, Reply

NEVER_CONNECTED = "client error (Connect)"
REFUSED = (
    "stream error received: refused stream before processing any application logic",
    "connection error received: not a result of an error",
)


def of_who_waited(first: Reply | None) -> Failure | None:
    """What the end of a connection's first request means for those that waited behind it.

    They were not sent. Where it could not connect or got no answer in time neither would they,
    one after the other, each for a whole deadline; after anything else the next one tries.
    """
    if not isinstance(first, Failure):
        return None
    if first.reason == "timeout":
        return Failure("timeout", sent=False, detail="the connection's first request got no answer")
    return None if first.sent else first


def explain(error: DetailedPyreqwestError) -> Failure:
    """What an exception of pyreqwest says about the request."""
    causes = [str(cause["message"]) for cause in error.details.get("causes") or ()]
    detail = causes[-1] if causes else error.message
    if isinstance(error, BuilderError):
        return Failure("protocol", sent=False, detail=detail)
    if NEVER_CONNECTED in causes:
        return Failure("connect", sent=False, detail=detail)
    if detail in REFUSED:
        return Failure("reset", sent=False, detail=detail)
    if isinstance(error, RequestTimeoutError):
        return Failure("timeout", sent=True, detail=detail)
    return Failure("reset", sent=True, detail=detail)
