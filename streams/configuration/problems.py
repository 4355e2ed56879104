"""What is wrong with a configuration, all of it at once, in words for people.

A problem names its key as it is written in the file, the line if it has one, the value, and what
would be accepted. Values of secrets are never shown, nor what came out of the environment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

PATTERN_SECRET = re.compile(
    r"password|secret|token|private_key|_pem|service_account|api_key|credential", re.IGNORECASE
)
VALUE_CHARS_MAX = 60

_CREDENTIALS = re.compile(r"//[^/@\s]*@")

Path = tuple[str | int, ...]
"""Keys from the top, with the places in lists."""


class Problem(msgspec.Struct, frozen=True):
    """One mistake."""

    path: Path
    expected: str
    """What would be right, as the end of a sentence that the key and the value begin."""
    value: Any = msgspec.UNSET
    """What is there; unset when nothing is."""

    @property
    def key(self) -> str:
        """``categories.like.digest.mode``, ``limits[0].window``."""
        text = ""
        for part in self.path:
            name = part if isinstance(part, int) or _is_bare(part) else f'"{part}"'
            text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else str(name)
        return text

    @property
    def shown(self) -> str:
        """The value as it would be written, cut short; hidden when it may be a secret."""
        if self.value is msgspec.UNSET:
            return ""
        # Also a misspelt name of a secret: what is expected then has the right one.
        if any(PATTERN_SECRET.search(str(part)) for part in (*self.path, self.expected)):
            return " = (hidden)"
        text = _CREDENTIALS.sub(
            "//(hidden)@", msgspec.json.encode(self.value, enc_hook=str).decode()
        )
        return f" = {text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + '...'}"


class SettingsError(Exception):
    """A configuration that cannot be used. ``problems`` has every mistake."""

    def __init__(
        self,
        source: str,
        problems: Sequence[Problem],
        lines: dict[Path, int],
        variables: Mapping[Path, str] | None = None,
    ) -> None:
        """``variables``: which values came out of the environment, and under which name."""
        self.source = source
        self.problems = tuple(
            sorted(problems, key=lambda p: (line_of(p.path, lines) or 1 << 30, p.key))
        )
        self.lines = lines
        self.variables = variables or {}
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.problems)
        elsewhere = sum(self._variable(problem.path) is not None for problem in self.problems)
        where = f"{'the environment' if elsewhere == count else self.source} has"
        if 0 < elsewhere < count:
            where = f"{self.source} and the environment have"
        head = f"{where} {'a mistake' if count == 1 else f'{count} mistakes'}:"
        return "\n".join([head, *(self._lines_of(problem) for problem in self.problems)])

    def _lines_of(self, problem: Problem) -> str:
        number = line_of(problem.path, self.lines)
        place = f"line {number}: " if number else ""
        where = f"{problem.key}{problem.shown}" if problem.path else ""
        variable = self._variable(problem.path)
        if variable is not None:
            place, where = "environment ", f"{variable}{problem.shown}"
        return f"  {place}{where}\n      {problem.expected}".replace("  \n      ", "  ")

    def _variable(self, path: Path) -> str | None:
        """The variable that has the value at a path, or around it, or all that is below it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                return self.variables[path[:length]]
        if not path or line_of(path, self.lines):
            return None
        below = (name for at, name in self.variables.items() if at[: len(path)] == path)
        return next(below, None)


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """Line of a key, or of the nearest table around it that was written."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` when something known is near."""
    near = difflib.get_close_matches(str(word), list(known), 1, 0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def one_of(word: Any, known: Sequence[str]) -> str:
    """The choices, and the nearest of them."""
    return f"expected one of {', '.join(known)}{did_you_mean(word, known)}"


def _is_bare(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None
