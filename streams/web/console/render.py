"""Templates to pages: jinja2 with autoescape, and the few filters that pages need.

Invariants: every value is escaped; an undefined name is an error; times are UTC and are said so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
import msgspec

from streams.web.console import charts

FOLDER = Path(__file__).resolve().parent
NONE = "-"
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
HTTP_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
STATE_TONES = {
    "delivered": "good", "digested": "good", "open": "wait", "accepted": "good",
    "delivering": "good", "held": "wait", "retrying": "wait", "escalating": "wait",
    "digest_closed": "good", "noted": "calm", "duplicate": "calm", "closed": "good",
    "half_open": "wait", "running": "good", "standby": "calm", "retry": "wait", "stale": "wait",
}  # fmt: skip
"""Words whose tone is not "bad"."""


def clock(time_ms: int | None) -> str:
    """A time for people, UTC, to the second; a dash for none."""
    if time_ms is None:
        return NONE
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def duration(length_ms: float | None) -> str:
    """A length of time in at most two units."""
    if length_ms is None:
        return NONE
    if length_ms < 0:
        return "-" + duration(-length_ms)
    if length_ms < SECOND_MS:
        return f"{length_ms:.0f} ms"
    if length_ms < 10 * SECOND_MS:
        return f"{length_ms / SECOND_MS:.1f} s"
    if length_ms < MINUTE_MS:
        return f"{length_ms / SECOND_MS:.0f} s"
    whole = int(length_ms)
    if whole < HOUR_MS:
        return f"{whole // MINUTE_MS} min {whole % MINUTE_MS // SECOND_MS} s"
    if whole < DAY_MS:
        return f"{whole // HOUR_MS} h {whole % HOUR_MS // MINUTE_MS} min"
    return f"{whole // DAY_MS} d {whole % DAY_MS // HOUR_MS} h"


def number(value: float | None) -> str:
    """A number with thousands apart; a dash for none."""
    if value is None:
        return NONE
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return NONE
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def segment(text: str) -> str:
    """A part of a path; an id that ends in ``.json`` stays one."""
    quoted = quote(text, safe="")
    return f"{quoted}?format=html" if quoted.endswith(".json") else quoted


def query(**parameters: Any) -> str:
    """A query of what is set."""
    kept = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(kept)}" if kept else ""


def tone(word: str) -> str:
    """How a verdict, a state or a status is coloured: good, wait, calm or bad."""
    return STATE_TONES.get(word, "bad")


def words(code: str) -> str:
    """A code as words."""
    return code.replace("_", " ")


def pretty(value: Any) -> str:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def environment() -> jinja2.Environment:
    """The templates of the pages."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clock=clock, duration=duration, number=number, size=size, segment=segment, tone=tone,
        words=words, pretty=pretty,
    )  # fmt: skip
    made.globals.update(query=query, bars=charts.bars, steps=charts.steps)
    return made
