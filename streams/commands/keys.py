"""``flowstate keys``: make, list and revoke the API's keys.

A key is shown once, when it is made; the file keeps a hash. Running servers follow the file, so a
revoked key stops working within a second and nothing has to be restarted. (The first key is another
matter: without any, a server listens on loopback only, until it is started again.)
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from streams.api import keys as api_keys
from streams.commands.configuration import settings_of
from streams.commands.failures import CommandError

DAY_MS = 24 * 3_600_000
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(
    short_help="Make, list and revoke keys of the HTTP API.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def keys() -> None:
    """Make, list and revoke keys of the HTTP API."""


def _options(command: click.decorators.FC) -> click.decorators.FC:
    config = click.option(
        "--config", type=FILE, help="Configuration; ./flowstate.toml if not named."
    )
    file = click.option("--file", type=FILE, help="Keys file; else api.keys_file of the settings.")
    return config(file(command))


@keys.command(short_help="Make a key; it is shown once.")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(api_keys.SCOPES),
    multiple=True,
    required=True,
    help=" ".join(f"{scope}: {does}." for scope, does in api_keys.SCOPE_MEANINGS.items()),
)
@click.option("--days", type=click.IntRange(1, 36_500), help="Stops working after so many days.")
@_options
def create(
    name: str,
    scopes: tuple[api_keys.Scope, ...],
    days: int | None,
    config: Path | None,
    file: Path | None,
) -> None:
    """Make a key for NAME (a service, a person); it is shown once.

    \b
    Example:
      flowstate keys create billing --scope produce --days 365
    """
    now_ms = time.time_ns() // 1_000_000
    expires_at_ms = None if days is None else now_ms + days * DAY_MS
    path = _path(config, file)
    chosen = tuple(dict.fromkeys(scopes))
    try:
        key, token = api_keys.create(path, name, chosen, now_ms, expires_at_ms)
    except (api_keys.KeysUnreadable, ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    click.echo(token)
    click.echo(f"key {key.key_id} for {name} in {path}; it will not be shown again", err=True)


@keys.command("list", short_help="Show all keys, without their secrets.")
@_options
def list_keys(config: Path | None, file: Path | None) -> None:
    """Show all keys, without their secrets.

    \b
    Example:
      flowstate keys list
    """
    path = _path(config, file)
    try:
        found = api_keys.read(path).keys
    except api_keys.KeysUnreadable as error:
        raise CommandError(str(error)) from error
    if not found:
        click.echo(f"there are no keys in {path}: the API answers this machine only")
    now_ms = time.time_ns() // 1_000_000
    for key in found:
        scopes = ",".join(key.scopes)
        click.echo(f"{key.key_id}  {_state(key, now_ms):<22}  {scopes:<28}  {key.name}")


@keys.command(short_help="End a key.")
@click.argument("key_id")
@_options
def revoke(key_id: str, config: Path | None, file: Path | None) -> None:
    """End the key KEY_ID; running servers follow within a second.

    \b
    Example:
      flowstate keys revoke 3f9a1c20b7d4
    """
    path = _path(config, file)
    try:
        found = api_keys.revoke(path, key_id, time.time_ns() // 1_000_000)
    except (api_keys.KeysUnreadable, OSError) as error:
        raise CommandError(str(error)) from error
    if found is None:
        raise CommandError(f"there is no key {key_id} in {path}", "See `flowstate keys list`.")
    click.echo(f"key {key_id} is revoked")


def _path(config: Path | None, file: Path | None) -> Path:
    return file or Path(settings_of(config, None).api.keys_file)


def _state(key: api_keys.ApiKey, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return f"revoked {_day(key.revoked_at_ms)}"
    if key.expires_at_ms is None:
        return "works"
    return f"{'works until' if key.works(now_ms) else 'expired'} {_day(key.expires_at_ms)}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
