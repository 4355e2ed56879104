"""The figures that the capacity model starts from, each with where it is from.

They are in one file, ``figures.toml``: what was measured has the command that gave it and the day;
what a provider publishes has its page; what was chosen says so. Nothing in the model is a number
of its own.

Invariant: a figure says where it is from, or the file is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("figures.toml")


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number: exactly one of ``command``, ``page`` and ``chosen`` says where it is from."""

    value: float
    unit: str
    what: str
    command: str = ""
    """What measured it."""
    on: str = ""
    """Day and machine of the measurement."""
    page: str = ""
    """Where a provider publishes it."""
    chosen: str = ""
    """Why it was chosen, when nobody measures or publishes it."""

    @property
    def origin(self) -> str:
        """Where it is from, in a word."""
        return "measured" if self.command else "published" if self.page else "chosen"


class FiguresError(ValueError):
    """A file of figures that cannot be used; the message names the figure."""


def load(path: Path = FILE) -> dict[str, Figure]:
    """Name -> figure. Raises ``FiguresError``, and OSError when there is no such file."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, Figure])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FiguresError(f"{path.name}: {error}") from error
    for name, figure in found.items():
        if sum(map(bool, (figure.command, figure.page, figure.chosen))) != 1:
            raise FiguresError(f"{path.name}: {name} must have one of command, page and chosen")
    return found


def with_values(figures: Mapping[str, Figure], own: Mapping[str, float]) -> dict[str, Figure]:
    """Figures with some values replaced by the reader's own. Raises ``FiguresError``."""
    for name in own:
        if name not in figures:
            raise FiguresError(f"there is no figure {name!r}; there are {', '.join(figures)}")
    replaced = {
        name: msgspec.structs.replace(
            figures[name], value=value, command="", on="", page="", chosen="given"
        )
        for name, value in own.items()
    }
    return {**figures, **replaced}
