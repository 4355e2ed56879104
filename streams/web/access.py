"""Who asks a worker's pages about people, and what they may.

=====================================  ===========================================================
who                                    how they show it
=====================================  ===========================================================
a machine                              ``Authorization: Bearer KEY``
a person in a browser                  a session cookie, begun with a key at ``/login``
another worker, or the command line    the shared ``internal_secret``; where there is none, that it
                                       passes a question on, from this machine
anybody on this machine                nothing, as long as no key was ever made
=====================================  ===========================================================

Invariants: with no keys configured only this machine is answered, whatever address the worker
listens on; once this process has seen a key, nothing is ever open again; what a key may not do is
refused before anything is looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from aiohttp import web

from streams.api.keys import OPEN_KEY, SCOPES, ApiKey, KeyRing, Scope
from streams.api.problems import refuse
from streams.ledger.directory import SECRET_HEADER
from streams.web.internal import HOP_HEADER, is_this_machine, is_worker
from streams.web.sessions import Sessions

SESSION_COOKIE = "flowstate_session"
BROWSER_COOKIE = "flowstate_browser"
WORKER_KEY = ApiKey("worker", "another worker", SCOPES, "", 0)
_OPEN_ON_ONE_MACHINE = (
    "There are no API keys, so only this machine is answered: use its loopback address, or make"
    " a key with `flowstate keys create`."
)


class Asker(msgspec.Struct, frozen=True):
    """Who asks, and what their key may do."""

    key: ApiKey
    how: Literal["open", "bearer", "session", "worker"]
    session: str = ""
    """The session cookie, for form tokens."""

    def may(self, scope: Scope) -> bool:
        """Whether the key has the scope."""
        return scope in self.key.scopes


ASKER = web.RequestKey("asker", Asker)


class Access:
    """Recognises whoever asks. One per worker."""

    def __init__(
        self,
        keys_file: Path | None,
        internal_secret: str,
        sessions: Sessions,
        reread_ms: int = 1_000,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Without a ``keys_file`` there are no keys. Raises ``KeysUnreadable``."""
        self.sessions = sessions
        self.now_ms = now_ms
        self._secret = internal_secret
        self._ring = KeyRing(keys_file, reread_ms) if keys_file is not None else None
        self._had_keys = False

    @property
    def has_keys(self) -> bool:
        """Whether keys are in use; never false again once it was true."""
        self._had_keys = self._had_keys or (self._ring is not None and self._ring.has_keys)
        return self._had_keys

    def find(self, token: str) -> ApiKey | None:
        """The working key of a token."""
        return self._ring.find(token, self.now_ms()) if self._ring is not None else None

    def asker(self, request: web.Request) -> Asker | None:
        """Who asks; ``None`` for nobody that we know. Raises 403 to other machines without keys."""
        if SECRET_HEADER in request.headers:
            return Asker(WORKER_KEY, "worker") if is_worker(request, self._secret) else None
        if HOP_HEADER in request.headers and not self._secret and is_this_machine(request):
            return Asker(WORKER_KEY, "worker")
        if not self.has_keys:
            if not is_this_machine(request):
                raise refuse("forbidden", _OPEN_ON_ONE_MACHINE)
            return Asker(OPEN_KEY, "open")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            key = self.find(token.strip())
            return None if key is None else Asker(key, "bearer")
        cookie = request.cookies.get(SESSION_COOKIE, "")
        key_id = self.sessions.key_id(cookie, self.now_ms()) if cookie else None
        if key_id is None or self._ring is None:
            return None
        key = self._ring.by_id(key_id, self.now_ms())
        return None if key is None else Asker(key, "session", cookie)

    def require(self, request: web.Request, scope: Scope) -> Asker:
        """Who asks, with this scope. Raises ``ProblemError``: 401, 403."""
        asker = self.asker(request)
        if asker is None:
            raise refuse(
                "unauthenticated",
                "Send Authorization: Bearer KEY, with a key of `flowstate keys create` that is"
                " neither revoked nor expired; in a browser, log in at /login.",
            )
        if not asker.may(scope):
            raise refuse("forbidden", f"This needs a key with the scope {scope}.")
        return asker


def access_of(
    keys_file: str,
    internal_secret: str,
    session_secret: bytes,
    session_ms: int,
    keys_reread_ms: int = 1_000,
) -> Access:
    """From settings. Raises ``KeysUnreadable``."""
    sessions = Sessions(session_secret, session_ms)
    file = Path(keys_file) if keys_file else None
    return Access(file, internal_secret, sessions, keys_reread_ms)
