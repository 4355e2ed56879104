"""What the capacity model answers: lines with their arithmetic, in sections."""

from __future__ import annotations

import math

import msgspec


class Line(msgspec.Struct, frozen=True):
    """One result: ``name = arithmetic = value unit``."""

    name: str
    value: float
    unit: str
    arithmetic: str
    note: str = ""


class Section(msgspec.Struct, frozen=True):
    """Lines that belong together."""

    title: str
    lines: list[Line]


class Plan(msgspec.Struct, frozen=True):
    """The whole answer."""

    sections: list[Section]

    def value(self, name: str) -> float:
        """A line's value, by its name. Raises KeyError."""
        for section in self.sections:
            for line in section.lines:
                if line.name == name:
                    return line.value
        raise KeyError(name)


def text(value: float) -> str:
    """A number for people: whole from 100 on, three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def power_of_two(value: float) -> int:
    """The smallest power of two that is not below ``value``."""
    return 1 << max(0, math.ceil(math.log2(max(1.0, value))))
