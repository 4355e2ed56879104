"""The commands about records: ``publish`` and ``tail``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import BinaryIO

import click

from streams import topics
from streams.codec import Codec
from streams.commands import publish as publishing
from streams.commands import tail as tailing
from streams.commands.configuration import client_of, settings_of
from streams.commands.failures import CommandError
from streams.commands.kafka import kafka_failures
from streams.commands.record_check import check_of
from streams.privacy import Pseudonyms


def publish(
    topic: str, file: BinaryIO, check: bool, config: Path | None, bootstrap: str | None
) -> None:
    """Publishes JSON lines; exit status 1 if any line was not accepted."""
    settings = settings_of(config, bootstrap)
    now_ms = time.time_ns() // 1_000_000
    rules = check_of(publishing.schema_of(topic), Codec(None), settings, now_ms)

    def say(text: str) -> None:
        click.echo(text, err=True)

    with kafka_failures(settings.kafka.bootstrap):
        report = asyncio.run(
            publishing.publish(topic, file, client_of(settings), say, now_ms, check, rules)
        )
    done = "right" if check else f"acknowledged by {settings.kafka.bootstrap}"
    click.echo(f"{report.accepted:,} records {done}")
    if report.refused or report.failed:
        raise CommandError(
            f"{report.refused:,} lines were not valid, {report.failed:,} not acknowledged",
            "Mend them and publish the file again: what was accepted is recognised by its id.",
        )


def tail(
    topic: str,
    last: int,
    from_beginning: bool,
    no_follow: bool,
    recipient: str | None,
    show_addresses: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Prints records as JSON lines until Ctrl-C, or until the end."""
    settings = settings_of(config, bootstrap)
    key = recipient
    if topic == topics.LOOKS and recipient is not None:
        key = Pseudonyms(settings.privacy).of(recipient).hex()

    async def show() -> None:
        lines = tailing.tail(
            topic,
            client_of(settings),
            last=last,
            from_beginning=from_beginning,
            follow=not no_follow,
            recipient_id=key,
            show_addresses=show_addresses,
            registry_url=settings.registry_url,
        )
        async for line in lines:
            click.echo(line)

    with kafka_failures(settings.kafka.bootstrap):
        asyncio.run(show())
