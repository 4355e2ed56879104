"""How roles are put together from settings."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from streams.api import keys
from streams.app import loopback_without_keys, role_of
from streams.settings import Settings, load


def settings_of(folder: Path, host: str) -> Settings:
    path = folder / "flowstate.toml"
    path.write_text(
        f'[engine]\nweb_host = "{host}"\nadvertised_url = "http://ledger-0.example:6066"\n'
        f'[api]\nkeys_file = "{folder}/keys.json"\n[categories.a]\nchannels = ["push"]\n'
    )
    return load(path, environment={})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ledger-0.example"])
def test_without_keys_a_ledger_worker_listens_on_loopback_and_says_so_once(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, host)
    with caplog.at_level(logging.WARNING):
        found = loopback_without_keys(settings)
    assert (found.engine.web_host, found.engine.advertised_url) == ("127.0.0.1", "")
    (said,) = caplog.messages
    assert "flowstate keys create" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_stays_as_it_is(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, host)
    assert loopback_without_keys(settings) is settings
    assert not caplog.messages


@pytest.mark.parametrize("is_revoked", [False, True])
def test_with_a_key_it_listens_where_it_is_told_to(tmp_path: Path, is_revoked: bool) -> None:
    settings = settings_of(tmp_path, "0.0.0.0")
    made, _ = keys.create(tmp_path / "keys.json", "ann", ("read",), 1)
    if is_revoked:
        keys.revoke(tmp_path / "keys.json", made.key_id, 2)
    assert loopback_without_keys(settings) is settings


def test_keys_that_cannot_be_read_open_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "0.0.0.0")
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(keys.KeysUnreadable):
        loopback_without_keys(settings)


def test_deliver_says_at_its_start_for_which_channels_it_has_no_provider(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, "127.0.0.1")
    with caplog.at_level(logging.WARNING):
        role_of("deliver", settings)
    (said,) = caplog.messages
    assert said.startswith("no provider is configured for push")
