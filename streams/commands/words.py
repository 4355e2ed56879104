"""Prints what ``flowstate preview`` has found: a table for each channel and locale, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streams.commands.configuration import settings_of
from streams.commands.preview import Previewed, events_of
from streams.commands.preview import preview as previewing

LOCALE_DEFAULT = "en"


def preview(
    category: str,
    locale: tuple[str, ...],
    channel: tuple[str, ...],
    data: tuple[str, ...],
    file: BinaryIO | None,
    digest: int | None,
    as_json: bool,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    """Renders and prints; nothing is sent."""
    settings = settings_of(config, bootstrap)
    events = events_of(category, data, file, digest)
    found = previewing(settings, category, events, locale or (LOCALE_DEFAULT,), channel)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    console = Console()
    for one in found:
        console.print(_table(one))
        console.print()


def _table(one: Previewed) -> Table:
    """What the template says, then what each kind of destination shows of it."""
    what = "1 event" if one.count == 1 else f"a digest of {one.count:,} by {one.actors:,} actors"
    table = Table(
        title=Text(f"{one.category} on {one.channel} in {one.locale}: {what}", "bold"),
        title_justify="left",
        caption=Text(one.note, "yellow") if one.note else None,
        caption_justify="left",
        show_lines=True,
    )
    table.add_column("part", style="cyan", no_wrap=True)
    table.add_column("words", overflow="fold")
    table.add_column("from", style="dim", overflow="fold")
    for part in ("title", "body", "subject", "html"):
        words = getattr(one, part)
        if words is not None and (part in one.templates or part in ("title", "body")):
            table.add_row(part, Text(words), Text(one.templates.get(part, "")))
    for shown in one.shown:
        if shown.refused:
            table.add_row(shown.kind, Text("not sent", "bold red"), Text(shown.refused))
        else:
            words = "\n".join(filter(None, (shown.title, shown.body)))
            note = "shortened: " if shown.is_shortened else ""
            table.add_row(shown.kind, Text(words), Text(note + shown.size))
    return table
