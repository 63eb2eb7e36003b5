"""Two more plots as inline SVG: intervals over names, and points over two axes; see ``report_svg`` for the rules.

Units: of whoever draws.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from build_engines.report_svg import COLOURS, bounds, drawable

_WIDTH, _ROW = 560, 20
_LEFT, _RIGHT, _TOP, _BOTTOM = 190, 16, 30, 40
_HEIGHT, _NARROW = 320, 64
MOST_NAMED = 24  # characters of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A name, a figure and what it lies between."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point.

    Attributes:
        x, y: where.
        label: what a reader sees who points at it.
        kind: points of one kind look alike and stand in the legend.
        shown: the label stands beside it.
    """

    x: float
    y: float
    label: str
    kind: str
    shown: bool = False


def interval_chart(title: str, rows: Sequence[Interval], *, x_label: str, limit: float | None = None) -> str:
    """A line a name, zero and the limit marked; an empty text when there is nothing to draw."""
    rows = [one for one in rows if all(map(drawable, (one.value, one.low, one.high)))]
    if not rows:
        return ""
    marks = [0.0, *([limit] if limit is not None and drawable(limit) else [])]
    low, high = bounds([*marks, *(end for one in rows for end in (one.low, one.high))], from_zero=False)
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def place(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    parts = [_text(8, 16, title, weight="600")]
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(_text(place(value), height - 22, f"{value:.3g}", anchor="middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, height - 6, x_label, anchor="middle"))
    for mark, dash in zip(marks, ("", ' stroke-dasharray="4 3"'), strict=False):
        x = place(mark)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{height - _BOTTOM}" stroke="#888"{dash}/>'
        )
    for number, one in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        colour = COLOURS[1] if one.low > 0 else COLOURS[0]
        parts += [
            _text(_LEFT - 8, y + 4, _short(one.name), anchor="end"),
            f'<line x1="{place(one.low):.1f}" x2="{place(one.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
            'stroke-width="2"/>',
            f'<circle cx="{place(one.value):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{html.escape(one.name)}: '
            f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]</title></circle>",
        ]
    return _svg(parts, title, height)


def point_chart(
    title: str,
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    front: Sequence[tuple[float, float]] = (),
) -> str:
    """Points by kind, and a line through the front; an empty text when there is nothing to draw."""
    points = [one for one in points if drawable(one.x) and drawable(one.y)]
    if not points:
        return ""
    x_low, x_high = bounds([one.x for one in points], from_zero=False)
    y_low, y_high = bounds([one.y for one in points], from_zero=False)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _NARROW + (x - x_low) / (x_high - x_low) * (_WIDTH - _NARROW - _RIGHT)
        return across, _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _BOTTOM - _TOP)

    parts = [_text(8, 16, title, weight="600")]
    for step in range(5):
        x, y = x_low + (x_high - x_low) * step / 4, y_low + (y_high - y_low) * step / 4
        at_x, at_y = place(x, y)
        parts += [
            f'<line x1="{_NARROW}" x2="{_WIDTH - _RIGHT}" y1="{at_y:.1f}" y2="{at_y:.1f}" stroke="#ddd"/>',
            _text(at_x, _HEIGHT - _BOTTOM + 16, f"{x:.3g}", anchor="middle"),
            _text(_NARROW - 6, at_y + 4, f"{y:.3g}", anchor="end"),
        ]
    parts.append(_text(_WIDTH / 2, _HEIGHT - 6, x_label, anchor="middle"))
    middle = _HEIGHT / 2
    parts.append(f'<g transform="rotate(-90 12 {middle})">{_text(12, middle, y_label, anchor="middle")}</g>')
    inside = [place(*one) for one in front if drawable(one[0]) and drawable(one[1])]
    if len(inside) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
        parts.append(f'<polyline points="{path}" fill="none" stroke="#888" stroke-dasharray="4 3"/>')
    kinds = list(dict.fromkeys(one.kind for one in points))
    for one in points:
        x, y = place(one.x, one.y)
        colour = COLOURS[kinds.index(one.kind) % len(COLOURS)]
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.8"><title>'
            f"{html.escape(one.label)}</title></circle>"
        )
        if one.shown:
            parts.append(_text(x + 6, y - 5, _short(one.label)))
    for number, kind in enumerate(kinds):
        x = _WIDTH - _RIGHT - 120 * (number + 1)
        parts.append(
            f'<circle cx="{x}" cy="12" r="4" fill="{COLOURS[number % len(COLOURS)]}"/>{_text(x + 8, 16, kind)}'
        )
    return _svg(parts, title, _HEIGHT)


def _short(text: str) -> str:
    return text if len(text) <= MOST_NAMED + 4 else f"{text[:MOST_NAMED]}..."


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="11">'
        f"{html.escape(text)}</text>"
    )


def _svg(parts: list[str], title: str, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{html.escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
