"""API keys: made once, shown once, kept as hashes in one small file.

A key is ``fsk_ID_SECRET``. The file has the SHA-256 of the secret: 256 random bits need no slow
hash, and a check costs microseconds. Whoever can read the file can call nothing with it.

Invariants: the file is replaced whole (written aside, then renamed), under a lock; a file that
cannot be read changes nothing and is said in the log: the keys known before stay in force.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import msgspec

from streams.api.settings import KeyLimits

log = logging.getLogger(__name__)

Scope = Literal["produce", "read", "reveal", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
SCOPE_MEANINGS: dict[Scope, str] = {
    "produce": "send events, cancel them, report receipts",
    "read": "look at every page, at preferences, addresses and history, and make previews; "
    "addresses and bodies are masked, raw bytes left out",
    "reveal": "see addresses and bodies as they are",
    "operate": "change preferences and addresses, try dead letters again, read the API's metrics",
}
"""What each lets somebody do, over the HTTP API and on the pages; docs/web.md says the same."""
KEYS_MAX = 10_000
TOKEN_CHARACTERS_MAX = 256
PREFIX = "fsk"


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key as it is kept."""

    key_id: str
    name: str
    """Whose it is; shown in lists, never in logs of requests."""
    scopes: tuple[Scope, ...]
    secret_sha256: str
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    limits: KeyLimits | None = None

    def works(self, now_ms: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at_ms is None and (
            self.expires_at_ms is None or now_ms < self.expires_at_ms
        )


class KeyFile(msgspec.Struct, frozen=True):
    """The whole file."""

    keys: list[ApiKey] = []


OPEN_KEY = ApiKey("open", "nobody: no keys are configured", SCOPES, "", 0)
"""Stands for whoever asks while there are no keys (and the server listens on loopback only)."""


class KeysUnreadable(Exception):  # noqa: N818 (a state, named for what it is)
    """The keys file is there and cannot be read: nothing may be opened because of it."""


def create(
    path: Path,
    name: str,
    scopes: tuple[Scope, ...],
    now_ms: int,
    expires_at_ms: int | None = None,
    limits: KeyLimits | None = None,
) -> tuple[ApiKey, str]:
    """(the key as kept, the token to hand over). Raises ``ValueError``, ``KeysUnreadable``."""
    with _locked(path):
        present = read(path)
        if len(present.keys) >= KEYS_MAX:
            raise ValueError(f"there are {KEYS_MAX} keys already: remove revoked ones first")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = ApiKey(
            key_id, name, scopes, _hash(secret), now_ms, expires_at_ms=expires_at_ms, limits=limits
        )
        _replace(path, KeyFile([*present.keys, key]))
    return key, f"{PREFIX}_{key_id}_{secret}"


def revoke(path: Path, key_id: str, now_ms: int) -> ApiKey | None:
    """The key, revoked from now on; ``None`` when there is none of that id."""
    with _locked(path):
        present = read(path)
        found = next((key for key in present.keys if key.key_id == key_id), None)
        if found is None or found.revoked_at_ms is not None:
            return found
        revoked = msgspec.structs.replace(found, revoked_at_ms=now_ms)
        _replace(path, KeyFile([revoked if key is found else key for key in present.keys]))
    return revoked


def read(path: Path) -> KeyFile:
    """All keys; none when there is no file. Raises ``KeysUnreadable``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except FileNotFoundError:
        return KeyFile()
    except (OSError, msgspec.DecodeError) as error:
        raise KeysUnreadable(f"the keys file {path} cannot be read: {error}") from error


class KeyRing:
    """The keys of a running server; follows the file."""

    def __init__(
        self, path: Path, reread_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ``KeysUnreadable``."""
        self._path = path
        self._reread_s = reread_ms / 1000
        self._clock = clock
        self._stamp = self._now_stamp()
        self._keys = {key.key_id: key for key in read(path).keys}
        self._looked_at = clock()

    @property
    def has_keys(self) -> bool:
        """Whether any key was ever made: a revoked one still means that keys are in use."""
        self._follow()
        return bool(self._keys)

    def find(self, token: str, now_ms: int) -> ApiKey | None:
        """The working key of a token."""
        self._follow()
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        prefix, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        # Hashed in any case, so that the time does not tell whether there is such a key.
        shown = _hash(secret)
        fits = hmac.compare_digest(shown, key.secret_sha256 if key else "0" * 64)
        return key if key and fits and prefix == PREFIX and key.works(now_ms) else None

    def by_id(self, key_id: str, now_ms: int) -> ApiKey | None:
        """The working key of that id: for a session that was begun with its token."""
        self._follow()
        key = self._keys.get(key_id)
        return key if key is not None and key.works(now_ms) else None

    def _follow(self) -> None:
        now = self._clock()
        if now - self._looked_at < self._reread_s:
            return
        self._looked_at = now
        stamp = self._now_stamp()
        if stamp == self._stamp:
            return
        try:
            self._keys = {key.key_id: key for key in read(self._path).keys}
        except KeysUnreadable as error:
            log.error("%s; the keys read before stay in force", error)
        self._stamp = stamp

    def _now_stamp(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0, 0
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _replace(path: Path, keys: KeyFile) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
