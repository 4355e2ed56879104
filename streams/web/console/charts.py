"""Charts as SVG drawn on the server: stacked bars over time, and the steps of one notification.

No script and no inline style (the pages' Content-Security-Policy allows neither): colours are
classes of the stylesheet, which knows dark and light. A chart is an image with a title for screen
readers; the table beside it has the same numbers.

Pure. Invariant: whatever the numbers, what comes out is well-formed and bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24
COLOURS = 8
"""Classes ``c0`` to ``c7``; series beyond them share the last."""
GRID_LINES = 4
HOUR_MS = 3_600_000


class Series(msgspec.Struct, frozen=True):
    """One colour of a chart: a value for each of the chart's places."""

    name: str
    values: list[float]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.values)


class Step(msgspec.Struct, frozen=True):
    """A stretch of time of one notification."""

    name: str
    start_ms: int
    length_ms: float


def bars(title: str, times_ms: Sequence[int], series: Sequence[Series]) -> Markup:
    """Stacked bars, one for each time."""
    places = len(times_ms)
    top = max((sum(s.values[i] for s in series) for i in range(places)), default=0.0)
    ceiling = nice_ceiling(top)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    out = [_open(title, HEIGHT)]
    for line in range(GRID_LINES + 1):
        value = ceiling * line / GRID_LINES
        y = TOP + height - height * line / GRID_LINES
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(short(value))}</text>"
        )
    step = width / max(1, places)
    gap = min(2.0, step * 0.2)
    for place in range(places):
        y = TOP + float(height)
        for index, one in enumerate(series):
            value = max(0.0, one.values[place])
            tall = height * value / ceiling
            if tall <= 0:
                continue
            y -= tall
            out.append(
                f'<rect class="c{min(index, COLOURS - 1)}" x="{LEFT + place * step + gap / 2:.2f}"'
                f' y="{y:.2f}" width="{max(0.5, step - gap):.2f}" height="{tall:.2f}"/>'
            )
    out += _time_axis(times_ms, step)
    out.append("</svg>")
    return Markup("".join(out))  # noqa: S704 - every text in it was escaped


def steps(title: str, found: Sequence[Step]) -> Markup:
    """Where the time of one notification went, one line for each step, on one scale."""
    row, left = 26, 230
    if not found:
        return Markup("")
    begin = min(step.start_ms for step in found)
    end = max(step.start_ms + step.length_ms for step in found)
    scale = (WIDTH - left - 90) / max(1.0, end - begin)
    height = row * len(found) + 8
    out = [_open(title, height)]
    for index, step in enumerate(found):
        y = 4 + index * row
        x = left + (step.start_ms - begin) * scale
        wide = max(2.0, step.length_ms * scale)
        out.append(
            f'<text class="axis" x="{left - 8}" y="{y + 16}" text-anchor="end">'
            f"{escape(step.name[:34])}</text>"
            f'<rect class="c{index % COLOURS}" x="{x:.1f}" y="{y + 3}" width="{wide:.1f}"'
            f' height="{row - 8}" rx="2"/>'
        )
    out.append("</svg>")
    return Markup("".join(out))  # noqa: S704 - every text in it was escaped


def by_time(
    counts: Mapping[tuple[int, str], float], times_ms: Sequence[int], names_max: int = COLOURS - 1
) -> list[Series]:
    """(time, name) -> value as series, the largest first; beyond ``names_max`` as "other"."""
    totals: dict[str, float] = {}
    for (_, name), value in counts.items():
        totals[name] = totals.get(name, 0.0) + value
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    found = [
        Series(name, [counts.get((at, name), 0.0) for at in times_ms])
        for name in ranked[:names_max]
    ]
    if len(ranked) > names_max:
        rest = ranked[names_max:]
        values = [sum(counts.get((at, name), 0.0) for name in rest) for at in times_ms]
        found.append(Series("other", values))
    return found


def nice_ceiling(value: float) -> float:
    """The next 1, 2 or 5 of a power of ten; at least 1."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    for factor in (1, 2, 4, 5, 10):
        if power * factor >= value:
            return power * factor
    return power * 10


def short(value: float) -> str:
    """A number for an axis."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _open(title: str, height: int) -> str:
    box = f'viewBox="0 0 {WIDTH} {height}"'
    return f'<svg class="chart" role="img" {box} aria-label="{escape(title)}">'


def _time_axis(times_ms: Sequence[int], step: float) -> list[str]:
    if not times_ms:
        return []
    span = times_ms[-1] - times_ms[0]
    shape = "%H:%M" if span < 36 * HOUR_MS else "%d %b"
    every = max(1, len(times_ms) // 6)
    out = []
    for place in range(0, len(times_ms), every):
        at = datetime.fromtimestamp(times_ms[place] / 1000, UTC)
        x = LEFT + place * step
        out.append(f'<text class="axis" x="{x:.1f}" y="{HEIGHT - 6}">{at.strftime(shape)}</text>')
    return out
