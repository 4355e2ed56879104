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
