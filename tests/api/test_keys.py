"""Keys: made once, kept as hashes, followed while the server runs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from streams.api import keys
from streams.api.settings import KeyLimits


def test_a_token_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    key, token = keys.create(path, "billing", ("produce",), 1_000)
    text = path.read_text()
    secret = token.split("_", 2)[2]
    assert secret not in text
    assert path.stat().st_mode & 0o077 == 0
    ring = keys.KeyRing(path, 0)
    assert ring.find(token, 2_000) == key
    for wrong in (token + "x", token[:-1], "", "fsk_", f"fsk_{key.key_id}_", "x" * 300, "fsk_é_é"):
        assert ring.find(wrong, 2_000) is None
    assert ring.find(token.replace("fsk_", "xxx_"), 2_000) is None


def test_a_key_ends_by_time_and_by_revocation(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, short = keys.create(path, "a", ("read",), 0, expires_at_ms=10)
    key, long = keys.create(path, "b", ("read",), 0, limits=KeyLimits(1.0))
    clock = [0.0]
    ring = keys.KeyRing(path, 1_000, lambda: clock[0])
    assert ring.find(short, 9) is not None
    assert ring.find(short, 10) is None
    assert keys.revoke(path, key.key_id, 5) is not None
    assert ring.find(long, 9) is not None  # known until the file is looked at again
    clock[0] = 1.5
    assert ring.find(long, 9) is None
    assert ring.has_keys  # a revoked key still means that keys are in use
    assert keys.revoke(path, "nobody", 5) is None


def test_a_file_that_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, token = keys.create(path, "a", ("read",), 0)
    clock = [0.0]
    ring = keys.KeyRing(path, 0, lambda: clock[0])
    path.write_text("{ damaged")
    clock[0] = 1
    assert ring.find(token, 0) is not None
    assert ring.has_keys
    with pytest.raises(keys.KeysUnreadable):
        keys.KeyRing(path, 0)
    with pytest.raises(keys.KeysUnreadable):
        keys.create(path, "b", ("read",), 0)


def test_without_a_file_there_are_no_keys(tmp_path: Path) -> None:
    ring = keys.KeyRing(tmp_path / "none.json", 0)
    assert not ring.has_keys
    assert ring.find("fsk_a_b", 0) is None


def test_keys_made_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [
        threading.Thread(target=keys.create, args=(path, str(n), ("read",), 0)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(path.read_text())["keys"]) == 8
