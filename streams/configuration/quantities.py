"""Durations and sizes as people write them: ``"1h30m"``, ``"250ms"``, ``"64MiB"``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 24 * 3_600_000,
    "w": 7 * 24 * 3_600_000,
}
UNITS_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
DURATION_EXPECTED = 'a duration such as "250ms", "30s", "5m", "1h30m" or "7d"'
SIZE_EXPECTED = 'a size such as "512KiB", "64MiB" or "8GiB", or a number of bytes'

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)")


def duration_ms(value: Any) -> int:
    """Milliseconds of a duration. A bare number has no unit, so only 0 is taken."""
    if value == 0 and not isinstance(value, (bool, str)):
        return 0
    if not isinstance(value, str) or not re.fullmatch(f"(?:{_PART.pattern})+", value):
        raise ValueError(f"expected {DURATION_EXPECTED}")
    total = sum(Fraction(number) * UNITS_MS[unit] for number, unit in _PART.findall(value))
    if total != int(total):
        raise ValueError("expected whole milliseconds")
    return int(total)


def size_bytes(value: Any) -> int:
    """Bytes of a size."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected {SIZE_EXPECTED}")
    return int(Fraction(found[1]) * UNITS_BYTES[found[2]])
