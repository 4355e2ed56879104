"""``flowstate keys``, as a person types it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from streams.api.keys import SCOPE_MEANINGS, SCOPES, KeyRing
from streams.commands.keys import keys

PAGE = Path(__file__).parents[2] / "docs" / "web.md"


def test_what_a_scope_lets_somebody_do_is_said_the_same_in_the_help_and_on_the_page() -> None:
    assert tuple(SCOPE_MEANINGS) == SCOPES
    _, _, after = PAGE.read_text().partition("| scope | lets somebody |\n|---|---|\n")
    rows = [f"| `{scope}` | {does} |" for scope, does in SCOPE_MEANINGS.items()]
    assert after.partition("\n\n")[0].splitlines() == rows
    shown = " ".join(CliRunner().invoke(keys, ["create", "--help"]).output.split())
    for scope, does in SCOPE_MEANINGS.items():
        assert f"{scope}: {does}." in shown


def test_make_list_and_revoke(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    runner = CliRunner()
    file = ["--file", str(path)]
    made = runner.invoke(keys, ["create", "billing", "--scope", "produce", "--days", "30", *file])
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    key = KeyRing(path, 0).find(token, 0)
    assert key is not None
    assert key.scopes == ("produce",)
    listed = runner.invoke(keys, ["list", *file])
    assert key.key_id in listed.output
    assert "works until" in listed.output
    assert token.split("_", 2)[2] not in listed.output
    assert runner.invoke(keys, ["revoke", key.key_id, *file]).exit_code == 0
    assert "revoked" in runner.invoke(keys, ["list", *file]).output
    assert KeyRing(path, 0).find(token, 0) is None
    assert runner.invoke(keys, ["revoke", "nobody", *file]).exit_code != 0
    assert runner.invoke(keys, ["create", "x", *file]).exit_code == 2
