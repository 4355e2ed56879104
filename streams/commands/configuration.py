"""Loads the configuration for a command, and names its mistakes as a failure of the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.api import keys
from streams.commands.failures import CommandError
from streams.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from streams.templates.catalogue import Templates


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


def templates_of(settings: Settings) -> Templates:
    """The deliver role's templates. Raises ``CommandError`` when they cannot be used."""
    from streams.templates.catalogue import TemplateError, Templates  # noqa: PLC0415 - few need it

    folder = settings.deliver.templates_folder
    if folder and not Path(folder).is_dir():
        raise CommandError(
            f"the folder of templates {folder} is not there",
            "Make it, or mend templates_folder under [deliver].",
        )
    try:
        return Templates(Path(folder) if folder else None)
    except TemplateError as error:
        raise CommandError(f"the templates cannot be used: {error}") from error


def check_providers(settings: Settings) -> None:
    """Raises ``CommandError`` when a provider cannot be built. Opens no connection."""
    from streams.sinks.providers import provider_problems  # noqa: PLC0415 - few need it

    found = list(provider_problems(settings.deliver))
    if found:
        raise CommandError("\n".join(found), "Deliver does not start with them.")


def check_keys(settings: Settings) -> None:
    """Raises ``CommandError`` when there is a file of API keys that cannot be read."""
    try:
        keys.read(Path(settings.api.keys_file))
    except keys.KeysUnreadable as error:
        raise CommandError(
            str(error), "Mend it, or name another as keys_file under [api]."
        ) from error


def check_templates(settings: Settings) -> None:
    """Raises ``CommandError`` when a template uses what events of its category may lack."""
    from streams.templates.variables import problems_of  # noqa: PLC0415 - as above

    found = problems_of(settings.policy.categories.values(), templates_of(settings))
    if found:
        raise CommandError("\n".join(found), "Such an event would be rejected when it is sent.")
