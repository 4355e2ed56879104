"""The commands about a cluster: what stops a start is a sentence that names the key."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streams.cli import main

NO_KAFKA = "127.0.0.1:1"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


WRONG_IN_USE = """
[api]
keys_file = "KEYS"
[providers.apns]
team_id = "t"
key_id = "k"
private_key_pem = "no key"
[providers.webhook]
secrets = ["short"]
[categories.message]
"""


def test_what_the_start_of_any_role_refuses_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    path = tmp_path / "mine.toml"
    path.write_text(WRONG_IN_USE.replace("KEYS", str(tmp_path / "keys.json")))
    result = run("config", "check", "--config", path)
    assert result.exit_code == 1
    for key in ("providers.apns.private_key_pem", "providers.webhook.secrets", "keys.json"):
        assert key in result.output
    assert "Traceback" not in result.output


def test_deliver_does_not_start_with_a_provider_that_cannot_be_built(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(WRONG_IN_USE.replace("KEYS", str(tmp_path / "none.json")))
    result = run("worker", "deliver", "--config", path, "--bootstrap", NO_KAFKA)
    assert result.exit_code == 1
    assert "providers.apns.private_key_pem cannot be used" in result.output


@pytest.mark.parametrize("role", ["decide", "deliver", "ledger"])
def test_a_port_that_is_taken_is_named_with_its_key(tmp_path: Path, role: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "mine.toml"
        path.write_text(
            f'data_folder = "{tmp_path}"\n[engine]\nweb_port = {port}\n[categories.message]\n'
        )
        result = run("worker", role, "--config", path, "--bootstrap", NO_KAFKA)
    assert result.exit_code == 1, result.output
    assert f"engine.web_port: the worker cannot listen on 127.0.0.1, port {port}" in result.output
    assert "FLOWSTATE_ENGINE__WEB_PORT" in result.output


def test_a_data_folder_that_cannot_be_made_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "mine.toml"
    path.write_text(
        f'data_folder = "{tmp_path}/file"\n[engine]\nweb_port = 0\n[categories.message]\n'
    )
    result = run("worker", "decide", "--config", path, "--bootstrap", NO_KAFKA)
    assert result.exit_code == 1, result.output
    assert "data_folder: " in result.output
    assert "Not a directory" in result.output
