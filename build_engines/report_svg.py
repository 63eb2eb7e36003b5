"""Plots as inline SVG: a report must open anywhere, without a script, a font or a file beside it.

Two kinds, which is all a report needs: lines over numbers and bars with whiskers over names. Colours are
chosen to be told apart in grey and by colour-blind readers.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#1f5fa8", "#c8641b", "#3a7d44", "#7b4397", "#555555")
_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 28, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a name and its points; a None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: where it stands (group, name), its height, and its whisker."""

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None = None


def line_chart(title: str, lines: Sequence[Line], *, x_label: str, y_label: str) -> str:
    """Lines with markers, a grid and a legend; an empty text when there is nothing to draw."""
    drawn = [(line, [(x, y) for x, y in line.points if y is not None and drawable(y)]) for line in lines]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return ""
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    x_low, x_high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y_low, y_high = bounds(ys, from_zero=min(ys) >= 0 and max(ys) > 2 * min(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return _x((x - x_low) / (x_high - x_low)), _y((y - y_low) / (y_high - y_low))

    parts = _frame(title, x_label, y_label, y_low, y_high)
    for x in sorted(set(xs)) if len(set(xs)) <= 12 else [x_low, (x_low + x_high) / 2, x_high]:
        parts.append(_text(place(x, y_low)[0], _HEIGHT - _BOTTOM + 14, f"{x:g}", anchor="middle"))
    for index, (line, points) in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            for x, y in (place(*p) for p in points)
        ]
        parts.append(_legend(index, line.name, colour))
    return _svg(parts, title)


def bar_chart(title: str, bars: Sequence[Bar], *, y_label: str) -> str:
    """Grouped bars with whiskers; an empty text when there is nothing to draw."""
    bars = [bar for bar in bars if drawable(bar.value)]
    if not bars:
        return ""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    names = list(dict.fromkeys(bar.name for bar in bars))
    ends = [end for bar in bars for end in (bar.value, *(bar.interval or ())) if drawable(end)]
    y_low, y_high = bounds([0.0, *ends], from_zero=True)
    parts = _frame(title, "", y_label, y_low, y_high)
    group_width = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    bar_width = 0.8 * group_width / len(names)
    zero_y = _y(-y_low / (y_high - y_low))
    for bar in bars:
        index = names.index(bar.name)
        x = _LEFT + group_width * (groups.index(bar.group) + 0.1) + bar_width * index
        y = _y((bar.value - y_low) / (y_high - y_low))
        colour = COLOURS[index % len(COLOURS)]
        parts.append(
            f'<rect x="{x:.1f}" y="{min(y, zero_y):.1f}" width="{bar_width * 0.9:.1f}" '
            f'height="{abs(zero_y - y):.1f}" fill="{colour}"><title>{html.escape(bar.name)}: {bar.value:.4g}</title></rect>'
        )
        if bar.interval is not None and all(drawable(end) for end in bar.interval):
            middle = x + bar_width * 0.45
            ends_y = [_y((end - y_low) / (y_high - y_low)) for end in bar.interval]
            parts.append(
                f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{ends_y[0]:.1f}" y2="{ends_y[1]:.1f}" '
                'stroke="#111" stroke-width="1.5"/>'
            )
    for place, group in enumerate(groups):
        parts.append(
            _text(_LEFT + group_width * (place + 0.5), _HEIGHT - _BOTTOM + 14, group, anchor="middle")
        )
    parts += [_legend(index, name, COLOURS[index % len(COLOURS)]) for index, name in enumerate(names)]
    return _svg(parts, title)


def drawable(value: float) -> bool:
    """Whether a figure has a place on an axis."""
    return abs(value) < 1e100  # neither NaN nor infinite, and differences of two stay finite


def bounds(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    """The ends of an axis, with a little room."""
    low, high = min(values), max(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if from_zero and low == 0 else low - room), high + room


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _frame(title: str, x_label: str, y_label: str, y_low: float, y_high: float) -> list[str]:
    parts = [_text(_LEFT, 14, title, weight="600")]
    for step in range(5):
        y = _y(step / 4)
        value = y_low + (y_high - y_low) * step / 4
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.3g}", anchor="end"))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 6, x_label, anchor="middle"))
    middle = _HEIGHT / 2
    parts.append(f'<g transform="rotate(-90 12 {middle})">{_text(12, middle, y_label, anchor="middle")}</g>')
    return parts


def _legend(index: int, name: str, colour: str) -> str:
    x = _WIDTH - _RIGHT - 110 * (index % 4 + 1)
    y = 10 + 12 * (index // 4)
    return f'<rect x="{x}" y="{y - 6}" width="9" height="9" fill="{colour}"/>{_text(x + 13, y + 2, name)}'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="11">'
        f"{html.escape(text)}</text>"
    )


def _svg(parts: list[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
