"""``flowstate topology``: every topic, table and role, as topology.md has them."""

from __future__ import annotations

from pathlib import Path

import click

from streams.topology import render


def topology(write: Path | None, config: Path | None, bootstrap: str | None) -> None:
    """Prints or writes topology.md."""
    text = render()
    if write is None:
        click.echo(text, nl=False)
    else:
        write.write_text(text, encoding="utf-8")
        click.echo(f"wrote {write}", err=True)
