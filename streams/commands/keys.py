"""``flowstate keys``: the API's keys. A token is shown once, when made; a hash is kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from streams.api import keys as ring
from streams.commands.configuration import settings_of
from streams.commands.failures import CommandError


def create(
    name: str,
    scope: tuple[ring.Scope, ...],
    days: int | None,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Makes a key and prints its token, which nobody can print again."""
    path = _path(config, bootstrap)
    now_ms = _now_ms()
    expires_at_ms = None if days is None else now_ms + days * 86_400_000
    try:
        key, token = ring.create(path, name, scope, now_ms, expires_at_ms)
    except (ring.KeysUnreadable, ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    click.echo(f"key {key.key_id} for {name} may {', '.join(scope)}; kept in {path}", err=True)
    click.echo("send it as `Authorization: Bearer TOKEN`; it is shown this once:", err=True)
    click.echo(token)


def list_keys(config: Path | None, bootstrap: str | None) -> None:
    """Prints every key, without what could be used."""
    path = _path(config, bootstrap)
    try:
        keys = ring.read(path).keys
    except ring.KeysUnreadable as error:
        raise CommandError(str(error)) from error
    now_ms = _now_ms()
    for key in keys:
        state = "works" if key.works(now_ms) else "revoked" if key.revoked_at_ms else "expired"
        made = datetime.fromtimestamp(key.created_at_ms / 1_000, UTC).date()
        click.echo(f"{key.key_id}  {state:<8} {made}  {','.join(key.scopes):<28} {key.name}")
    if not keys:
        click.echo(f"there are no keys in {path}: the API answers this machine only", err=True)


def revoke(key_id: str, config: Path | None, bootstrap: str | None) -> None:
    """Revokes a key; running API processes follow within ``api.keys_reread``."""
    path = _path(config, bootstrap)
    try:
        found = ring.revoke(path, key_id, _now_ms())
    except (ring.KeysUnreadable, OSError) as error:
        raise CommandError(str(error)) from error
    if found is None:
        raise CommandError(f"there is no key {key_id} in {path}", "See `flowstate keys list`.")
    click.echo(f"key {key_id} for {found.name} is revoked")


def _path(config: Path | None, bootstrap: str | None) -> Path:
    return Path(settings_of(config, bootstrap).api.keys_file)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
