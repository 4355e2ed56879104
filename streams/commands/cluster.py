"""The commands about a cluster: ``worker``, ``topics`` and ``config``."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from streams import topics
from streams.commands.configuration import (
    check_keys,
    check_providers,
    check_templates,
    settings_of,
)
from streams.commands.failures import CommandError
from streams.commands.kafka import kafka_failures
from streams.configuration.coverage import uncovered
from streams.engine.topics_admin import TopicsWrong, check_topics, create_topics
from streams.settings import Settings


def worker(role: str, config: Path | None, bootstrap: str | None) -> None:
    """Runs a worker in this process and exits with its status."""
    settings = settings_of(config, bootstrap)
    if role in ("decide", "deliver", "api"):
        check_templates(settings)
    if role == "deliver":
        check_providers(settings)
    logging.basicConfig(
        level=settings.engine.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    sys.exit(_run_api(settings) if role == "api" else _run_role(role, settings))


def _run_role(role: str, settings: Settings) -> int:
    from streams.api.keys import KeysUnreadable  # noqa: PLC0415 - as below
    from streams.app import run_role  # noqa: PLC0415 - a second of imports that only this needs
    from streams.engine.faust_app import CannotStart  # noqa: PLC0415

    try:
        return run_role(role, settings)
    except KeysUnreadable as error:
        raise CommandError(str(error)) from error
    except CannotStart as error:
        raise CommandError(str(error), error.remedy) from error


def _run_api(settings: Settings) -> int:
    from streams.api.app import run_api  # noqa: PLC0415 - as above
    from streams.api.keys import KeysUnreadable  # noqa: PLC0415
    from streams.app import catalogue_of  # noqa: PLC0415

    try:
        return run_api(settings, catalogue_of(settings))
    except (KeysUnreadable, TopicsWrong) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(
            f"the API cannot listen on port {settings.api.port}: {error.strerror}",
            "Stop what has the port, or choose another under [api] in flowstate.toml.",
        ) from error


def topics_create(config: Path | None, bootstrap: str | None) -> None:
    """Creates what is missing, then checks everything."""
    settings = settings_of(config, bootstrap)
    kafka = settings.kafka
    with kafka_failures(kafka.bootstrap):
        try:
            created = asyncio.run(
                create_topics(
                    kafka.bootstrap,
                    topics.SPECS,
                    kafka.partitions,
                    kafka.replication,
                    settings.clock == "stream",
                    settings.security,
                )
            )
        except TopicsWrong as error:
            raise CommandError(str(error)) from error
    for name in created:
        click.echo(f"created {name}")
    click.echo(f"{len(created)} topics created, {len(topics.SPECS) - len(created)} were there")
    topics_check(config, bootstrap)


def topics_check(config: Path | None, bootstrap: str | None) -> None:
    """Says what is wrong with the topics; exit status 1 if anything is."""
    settings = settings_of(config, bootstrap)
    kafka = settings.kafka
    with kafka_failures(kafka.bootstrap):
        problems = asyncio.run(
            check_topics(
                kafka.bootstrap,
                topics.SPECS,
                kafka.partitions,
                settings.clock == "stream",
                settings.security,
            )
        )
    for problem in problems:
        click.echo(problem)
    if problems:
        raise CommandError(
            f"{len(problems)} things are not as they must be on {kafka.bootstrap}",
            "Missing topics are made by `flowstate topics create`; existing ones are never"
            " changed: use kafka-configs, or make them anew while they are empty.",
        )
    click.echo(f"all {len(topics.SPECS)} topics on {kafka.bootstrap} are as they must be")


def config_check(config: Path | None, bootstrap: str | None) -> None:
    """Says everything that is wrong with the configuration; exit status 1 if anything is.

    What the start of any role refuses is found here, without a connection to anything. A channel
    without a provider is a warning: the catalogue may be ahead of its providers.
    """
    settings = settings_of(config, bootstrap)
    found = []
    for check in (check_templates, check_providers, check_keys):
        try:
            check(settings)
        except CommandError as error:
            found.append(str(error))
    if found:
        raise CommandError("\n".join(found))
    names = ", ".join(settings.policy.categories)
    click.echo(
        f"{settings.source} is right: Kafka at {settings.kafka.bootstrap},"
        f" {settings.kafka.partitions} partitions, {len(settings.deliver.providers)} providers,"
        f" policy {settings.policy.version} with the categories {names}"
    )
    for warning in uncovered(settings.policy, settings.deliver.providers):
        click.echo(f"warning: {warning}", err=True)
