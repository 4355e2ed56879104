"""``flowstate capacity``: how much of everything a load needs, with the arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from streams import topics
from streams.capacity import figures as known
from streams.capacity.model import Demand, plan
from streams.capacity.result import Plan, text
from streams.commands.failures import CommandError

SHARES = {"apns": 0.4, "fcm": 0.32, "email": 0.24, "sms": 0.04}
"""Kinds of destination in the mix that was measured."""
EVENTS_EACH = 10.0
"""Events a day for each recipient, where their number is not given."""
SHARES_SLACK = 0.001


def capacity(
    figure: tuple[tuple[str, float], ...],
    file: Path | None,
    show_figures: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Prints the plan, and with ``show_figures`` what it starts from.

    ``asked``: the options that describe the load, by name.
    """
    try:
        figures = known.with_values(known.load(file or known.FILE), dict(figure))
        demand = _demand(figures, **asked)
        made = plan(demand, figures)
    except (known.FiguresError, OSError) as error:
        raise CommandError(
            f"the figures cannot be used: {error}",
            "`flowstate capacity --events-per-day 1e9 --figures` shows the shipped ones.",
        ) from error
    except KeyError as missing:
        raise CommandError(
            f"the figures lack {missing}", "Start from the shipped file, which has them all."
        ) from missing
    if as_json:
        told = {"demand": demand, "plan": made, "figures": figures}
        click.echo(json.dumps(msgspec.to_builtins(told), indent=2, ensure_ascii=False))
        return
    _print_plan(made)
    if show_figures:
        _print_figures(figures)


def _demand(
    figures: Mapping[str, known.Figure],
    *,
    events_per_day: float,
    recipients: float | None,
    deliveries_per_event: float | None,
    share: tuple[tuple[str, float], ...],
    outage_hours: float,
    **same: Any,
) -> Demand:
    """The load as the model takes it; ``same`` are fields under their own names."""
    shares = dict(share) or SHARES
    if abs(sum(shares.values()) - 1) > SHARES_SLACK:
        raise CommandError(
            f"the shares add up to {sum(shares.values()):g}, not to 1",
            "Give --share KIND SHARE for every kind of destination that is used.",
        )
    if strange := set(shares) - set(topics.KINDS):
        raise CommandError(
            f"there is no kind of destination {', '.join(sorted(strange))}",
            f"There are {', '.join(topics.KINDS)}.",
        )
    return Demand(
        events_per_day=events_per_day,
        recipients=recipients or events_per_day / EVENTS_EACH,
        deliveries_per_event=deliveries_per_event or figures["deliveries_per_event"].value,
        shares=shares,
        outage_s=outage_hours * 3_600,
        **same,
    )


def _print_plan(made: Plan) -> None:
    for section in made.sections:
        click.echo(f"\n{section.title}")
        for line in section.lines:
            click.echo(f"  {line.name:40} {text(line.value):>12} {line.unit}")
            click.echo(f"      = {line.arithmetic}{f'   ({line.note})' if line.note else ''}")


def _print_figures(figures: dict[str, known.Figure]) -> None:
    click.echo("\nFigures")
    for name, figure in figures.items():
        click.echo(f"  {name:40} {text(figure.value):>12} {figure.unit}   [{figure.origin}]")
        source = figure.command or figure.page or figure.chosen
        click.echo(f"      {figure.what}\n      {source}{f'   ({figure.on})' if figure.on else ''}")
