"""Who is let in: keys, sessions, workers, and this machine alone while there are no keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from streams.api import keys
from streams.api.problems import ProblemError
from streams.api.settings import ApiSettings
from streams.ledger.directory import SECRET_HEADER
from streams.web.access import SESSION_COOKIE, Access
from streams.web.console.console import console_access
from streams.web.internal import HOP_HEADER
from streams.web.sessions import Sessions
from streams.web.settings import WebSettings

NOW = 1_700_000_000_000


class Transport:
    """A connection from an address."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._peer, 1234) if name == "peername" else default


def asked(peer: str = "127.0.0.1", host: str = "localhost:6066", **headers: str) -> web.Request:
    shown = {"Host": host, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return make_mocked_request("GET", "/", headers=shown, transport=Transport(peer))


def access(path: Path | None = None, secret: str = "") -> Access:
    return Access(path, secret, Sessions(b"s", 1_000), reread_ms=0, now_ms=lambda: NOW)


def kind_of(error: ProblemError) -> str:
    return error.problem.type.rpartition(":")[2]


@pytest.mark.parametrize("host", ["localhost:6066", "127.0.0.1", "[::1]:6066"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_may_do_everything(host: str, peer: str) -> None:
    found = access().require(asked(peer, host), "operate")
    assert (found.how, found.key.key_id) == ("open", "open")


@pytest.mark.parametrize(
    ("peer", "host"),
    [("10.0.0.9", "localhost"), ("127.0.0.1", "evil.example"), ("", "localhost")],
)
def test_without_keys_nobody_else_is_answered(peer: str, host: str) -> None:
    with pytest.raises(ProblemError) as refused:
        access().require(asked(peer, host), "read")
    assert kind_of(refused.value) == "forbidden"


def test_with_a_key_everybody_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, token = keys.create(path, "ann", ("read",), NOW)
    guard = access(path)
    for shown in ({}, {"Authorization": "Bearer fsk_x_y"}, {"Cookie": f"{SESSION_COOKIE}=x.y.z"}):
        with pytest.raises(ProblemError) as refused:
            guard.require(asked(**shown), "read")
        assert kind_of(refused.value) == "unauthenticated"
    assert guard.require(asked("10.0.0.9", Authorization=f"Bearer {token}"), "read").key == key
    with pytest.raises(ProblemError) as refused:
        guard.require(asked(Authorization=f"Bearer {token}"), "operate")
    assert kind_of(refused.value) == "forbidden"


def test_a_revoked_key_ends_its_sessions_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, _ = keys.create(path, "ann", ("read",), NOW)
    guard = access(path)
    cookie = f"{SESSION_COOKIE}={guard.sessions.begin(key.key_id, NOW)}"
    assert guard.require(asked(Cookie=cookie), "read").how == "session"
    keys.revoke(path, key.key_id, NOW)
    assert guard.asker(asked(Cookie=cookie)) is None


@pytest.mark.parametrize(("reread_ms", "how"), [(0, None), (3_600_000, "session")])
def test_how_soon_a_revoked_key_counts_is_the_apis_setting(
    tmp_path: Path, reread_ms: int, how: str | None
) -> None:
    path = tmp_path / "keys.json"
    key, _ = keys.create(path, "ann", ("read",), NOW)
    api = ApiSettings(keys_file=str(path), keys_reread_ms=reread_ms)
    guard = console_access(WebSettings(), api)
    now_ms = guard.now_ms()
    cookie = f"{SESSION_COOKIE}={guard.sessions.begin(key.key_id, now_ms)}"
    keys.revoke(path, key.key_id, now_ms)
    found = guard.asker(asked(Cookie=cookie))
    assert (found and found.how) == how


def test_what_was_closed_is_never_open_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.create(path, "ann", ("read",), NOW)
    guard = access(path)
    assert guard.has_keys
    path.unlink()
    assert guard.asker(asked()) is None


def test_without_a_secret_a_worker_is_known_by_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.create(path, "ann", ("read",), NOW)
    shown = {HOP_HEADER: "1"}
    assert access(path).require(asked(**shown), "read").how == "worker"
    assert access(path).asker(asked("10.0.0.9", **shown)) is None
    assert access(path, "s" * 32).asker(asked(**shown)) is None


def test_a_worker_shows_the_secret() -> None:
    guard = access(secret="s" * 32)
    assert guard.require(asked("10.0.0.9", **{SECRET_HEADER: "s" * 32}), "read").how == "worker"
    assert guard.asker(asked("10.0.0.9", **{SECRET_HEADER: "wrong"})) is None
    with pytest.raises(ProblemError):
        access().require(asked("10.0.0.9", **{SECRET_HEADER: ""}), "read")
