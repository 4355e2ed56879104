"""Loads the configuration for a command, and names its mistakes as a failure of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streams.commands.failures import CommandError
from streams.settings import Settings, SettingsError, load


def settings_of(config: Path | None, bootstrap: str | None) -> Settings:
    """The settings; ``--bootstrap`` wins over the file. Raises ``CommandError``."""
    overrides = {} if bootstrap is None else {"kafka.bootstrap": bootstrap}
    try:
        return load(config, overrides)
    except SettingsError as error:
        raise CommandError(str(error)) from error


def client_of(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client of a command is given: servers and security."""
    return {"bootstrap_servers": settings.kafka.bootstrap, **settings.security}
