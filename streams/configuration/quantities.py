"""Durations, sizes and URLs as people write them: ``"1h30m"``, ``"250ms"``, ``"64MiB"``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

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
URL_EXPECTED = 'a URL such as "https://example.com"'

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


def web_url(value: str) -> str:
    """The URL of a server, or nothing; what would be right as ``ValueError`` otherwise."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        is_right = False
    if not is_right or not value.isprintable() or " " in value:
        raise ValueError(f"expected {URL_EXPECTED}")
    return value


def duration_text(ms: int) -> str:
    """A duration in its largest unit that needs no fraction: ``30000`` -> ``30s``."""
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % UNITS_MS[unit] == 0)
    return f"{ms // UNITS_MS[unit]}{unit}"
