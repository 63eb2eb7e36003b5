"""Small charts as SVG text: lines, steps and stacked areas over one pair of axes; no script, no network, no library.

Colours come from CSS variables of the page, so the charts follow its light and dark theme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 920, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 40
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        y: one for each x; None leaves a gap.
        colour: a CSS colour.
        filled: draw the area down to the axis (or to the series below it, in a stack).
        stepped: hold each value until the next.
        dashed: draw a dashed line.
    """

    name: str
    y: Values
    colour: str
    filled: bool = False
    stepped: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows; also its accessible name.
        x: positions, ascending.
        series: what is drawn, in order.
        x_label: axis title with its unit.
        y_label: likewise.
        log_x: logarithmic x axis (positive x only).
        stacked: series are added up.
        marks: vertical lines, ``(x, text)``.
        levels: horizontal lines, ``(y, text)``.
        top: highest y shown; None: the highest value there is.
    """

    title: str
    x: Sequence[float]
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    stacked: bool = False
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    levels: Sequence[tuple[float, str]] = field(default_factory=tuple)
    top: float | None = None


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values inside ``[low, high]``, at most about ``most``."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside ``[low, high]``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        factor * 10.0**power
        for power in powers
        for factor in (1, 2, 5)
        if low <= factor * 10.0**power <= high
    ]


def draw(chart: Chart) -> str:
    """The chart as an ``<svg>`` element."""
    name = html.escape(chart.title)
    layers = _stacked(chart.series) if chart.stacked else [(list(series.y), None) for series in chart.series]
    values = [y for upper, _ in layers for y in upper if y is not None] + [y for y, _ in chart.levels]
    if not chart.x or not values:
        return f'<p class="empty">{name}: nothing to show</p>'
    axes = _Axes(chart, max(values))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}" xmlns="http://www.w3.org/2000/svg">'
    ]
    parts.extend(axes.grid())
    for series, (upper, lower) in reversed(list(zip(chart.series, layers, strict=True))):
        parts.extend(_paths(axes, chart.x, series, upper, lower))
    for y, text in chart.levels:
        if y <= axes.top:
            at = axes.down(y)
            parts.append(
                f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            parts.append(
                f'<text class="note" x="{WIDTH - _RIGHT - 4}" y="{at - 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
            )
    for x, text in chart.marks:
        if axes.low <= x <= axes.high:
            at = axes.across(x)
            parts.append(
                f'<line class="level" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            )
            parts.append(f'<text class="note" x="{at + 4:.1f}" y="{_TOP + 10}">{html.escape(text)}</text>')
    parts.append("</svg>")
    keys = "".join(
        f'<span><i style="background:{series.colour}"></i>{html.escape(series.name)}</span>'
        for series in chart.series
    )
    return f'<figure><figcaption>{name}</figcaption>{"".join(parts)}<div class="legend">{keys}</div></figure>'


class _Axes:
    def __init__(self, chart: Chart, highest: float) -> None:
        self._chart = chart
        self.low, self.high = float(chart.x[0]), float(chart.x[-1])
        if chart.log_x:
            self.low = max(self.low, 1e-6)
        if self.high <= self.low:
            self.high = self.low * 1.1 + 1e-9
        self.top = (chart.top if chart.top is not None else highest * 1.05) or 1.0

    def across(self, x: float) -> float:
        if self._chart.log_x:
            share = math.log(max(x, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (x - self.low) / (self.high - self.low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def down(self, y: float) -> float:
        return HEIGHT - _BOTTOM - min(y / self.top, 1.0) * (HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> list[str]:
        parts = []
        for y in ticks(0, self.top, 5):
            at = self.down(y)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(y)}</text>')
        for x in log_ticks(self.low, self.high) if self._chart.log_x else ticks(self.low, self.high, 10):
            at = self.across(x)
            parts.append(
                f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            )
            parts.append(
                f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_number(x)}</text>'
            )
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text class="axis" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(self._chart.x_label)}</text>'
        )
        parts.append(
            f'<text class="axis" transform="translate(13 {(HEIGHT - _BOTTOM) / 2 + 8}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(self._chart.y_label)}</text>"
        )
        return parts


def _stacked(series: Sequence[Series]) -> list[tuple[list[float | None], list[float]]]:
    below = [0.0] * (len(series[0].y) if series else 0)
    layers: list[tuple[list[float | None], list[float]]] = []
    for one in series:
        upper = [low + (y or 0.0) for low, y in zip(below, one.y, strict=True)]
        layers.append((list(upper), below))
        below = upper
    return layers


def _paths(
    axes: _Axes,
    x: Sequence[float],
    series: Series,
    upper: Sequence[float | None],
    lower: Sequence[float] | None,
) -> list[str]:
    parts = []
    for run in _runs(upper):
        points = _points(axes, x, upper, run, series.stepped)
        line = " L".join(f"{across:.1f} {down:.1f}" for across, down in points)
        if series.filled:
            base: Sequence[float | None] = lower if lower is not None else [0.0] * len(upper)
            under = _points(axes, x, base, run, series.stepped)
            back = " L".join(f"{across:.1f} {down:.1f}" for across, down in reversed(under))
            parts.append(
                f'<path d="M{line} L{back} Z" fill="{series.colour}" fill-opacity="0.55" stroke="none"/>'
            )
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        if len(points) == 1:
            parts.append(
                f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2" fill="{series.colour}"/>'
            )
        parts.append(f'<path d="M{line}" fill="none" stroke="{series.colour}" stroke-width="1.5"{dash}/>')
    return parts


def _runs(values: Sequence[float | None]) -> list[range]:
    runs, start = [], None
    for number, value in enumerate([*values, None]):
        if value is None:
            if start is not None:
                runs.append(range(start, number))
            start = None
        elif start is None:
            start = number
    return runs


def _points(
    axes: _Axes, x: Sequence[float], values: Sequence[float | None], run: range, stepped: bool
) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for number in run:
        value = values[number]
        point = axes.across(x[number]), axes.down(value if value is not None else 0.0)
        if stepped and points:
            points.append((point[0], points[-1][1]))
        points.append(point)
    return points


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"
