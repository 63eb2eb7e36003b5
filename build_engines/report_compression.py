"""The chain's part of a report: what each compression step did, in its own sentence, with sizes before and after, and plots."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from build_engines.report_frame import row, table
from build_engines.report_svg import Line, line_chart

if TYPE_CHECKING:  # a page must not wait for torch
    from build_engines.compression.step import StepRecord


def compression_section(records: Sequence[StepRecord]) -> str:
    """Steps in the order in which they ran; nothing where there were none.

    Args:
        records: of the chain.
    """
    return "".join(_step(place, record) for place, record in enumerate(records, 1))


def _step(place: int, record: StepRecord) -> str:
    changed = [
        row(name, f"{record.before.get(name, 0):,}", f"{value:,}")
        for name, value in record.after.items()
        if record.before.get(name) != value
    ]
    figures = [row(name, f"{value:.6g}") for name, value in record.figures.items()]
    charts = (
        line_chart(curve.name, [Line(name=curve.y, points=curve.points)], x_label=curve.x, y_label=curve.y)
        for curve in record.curves
    )
    return (
        f"<h3>{place}. {html.escape(record.step)}</h3><p>{html.escape(record.said)}</p>"
        + (table(("size", "before", "after"), changed, numbers=1) if changed else "")
        + (table(("", ""), figures) if figures else "")
        + "".join(charts)
    )
