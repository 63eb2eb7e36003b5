"""A chain in the report: what each step did, how large the network was before and after, and the curves that it drew."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from build_engines.compression.records import CompressRecord
from build_engines.compression.step_records import StepRecord
from build_engines.report_frame import StepTaken, row, table
from build_engines.report_svg import Line, line_chart
from build_engines.states import Output

_SIZES = {
    "blocks": "blocks",
    "dim": "width",
    "heads": "heads",
    "kv_heads": "heads of keys and values",
    "head_dim": "width of a head",
    "inner": "inner width",
    "rows": "rows of the table",
}


def steps_taken(steps: Iterable[tuple[Output, CompressRecord]]) -> list[StepTaken]:
    """A line for each step of a chain among the stages."""
    return [
        StepTaken(
            stage=f"{output.stage} {record.number + 1}: {record.record.step}",
            seconds=output.seconds,
            notes=record.notes,
        )
        for output, record in steps
    ]


def chain_section(chain: Sequence[CompressRecord]) -> str:
    """What was done to the network; nothing where nothing was."""
    if not chain:
        return ""
    first, last = chain[0], chain[-1]
    rows = [
        row(
            f"{one.number + 1}. {one.record.step}",
            one.record.said,
            f"{one.parameters_after:,}",
            f"{one.packed_after / 1e6:.2f}",
            f"{one.loss_before:.4f}",
            f"{one.loss_after:.4f}",
            numbers=2,
        )
        for one in chain
    ]
    head = ("step", "", "weights after", "MB packed after", "held-out loss before", "after")
    lead = (
        f'<p class="lead">{first.parameters_before:,} weights became {last.parameters_after:,} '
        f"({first.parameters_before / max(1, last.parameters_after):.1f} times fewer), "
        f"{first.packed_before / 1e6:.2f} MB became {last.packed_after / 1e6:.2f} MB (float32 after zlib: what zeros and "
        "shared values are worth on disk, and not what makes an engine faster). Quantization comes behind this.</p>"
    )
    return lead + table(head, rows, numbers=2) + _sizes(first, last) + "".join(_curves(one) for one in chain)


def _sizes(first: CompressRecord, last: CompressRecord) -> str:
    before, after = first.record.before, last.record.after
    rows = [
        row(text, f"{before[name]:,}", f"{after[name]:,}")
        for name, text in _SIZES.items()
        if name in before and name in after and before[name] != after[name]
    ]
    return table(("size of the network", "before", "after"), rows, numbers=1) if rows else ""


def _curves(one: CompressRecord) -> str:
    drawn: dict[tuple[str, str], list[Line]] = {}
    for curve in one.record.curves:
        drawn.setdefault((curve.x, curve.y), []).append(Line(name=curve.name, points=list(curve.points)))
    charts = [
        line_chart(f"{one.number + 1}. {one.record.step}", lines, x_label=x, y_label=y)
        for (x, y), lines in drawn.items()
    ]
    shown = "".join(charts)
    return f"<h3>{html.escape(f'{one.number + 1}. {one.record.step}')}</h3>{shown}" if shown else ""


def mixed_section(record: StepRecord | None) -> str:
    """How each product's precision was chosen; nothing where all have the same."""
    if record is None:
        return ""
    shown = CompressRecord(
        record=record,
        number=0,
        options={},
        loss_before=0.0,
        loss_after=0.0,
        parameters_before=0,
        parameters_after=0,
        packed_before=0,
        packed_after=0,
    )
    figures = [row(name, f"{value:.4g}") for name, value in record.figures.items()]
    return (
        f'<p class="lead">{html.escape(record.said)}.</p>'
        + table(("figure", ""), figures, numbers=1)
        + _curves(shown)
    )
