"""The report as one self-contained page: a product manager can read it, an engineer can trust it."""

from __future__ import annotations

import html

from build_engines.compression.report import chain_section, mixed_section
from build_engines.records import ModelFigures
from build_engines.report import Report
from build_engines.report_frame import (
    evidence_table,
    flag_note,
    page,
    provenance_table,
    section,
    sizes_table,
    speed_table,
    steps_table,
    table,
)
from build_engines.report_summary import footprint_table, plain_words, slices_section
from build_engines.report_svg import Bar, Line, bar_chart, line_chart

_FLAGS = {
    "below_floor": "This model is worse than plain transition counts. It was published on purpose.",
    "floor_undecided": "This model's lead over plain transition counts is not decided by this many users. "
    "It was published on purpose.",
}
_METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10", "coverage@10")


def report_html(report: Report) -> str:
    """The page."""
    sections = (
        _headline(report),
        plain_words(
            evidence=report.evidence,
            speed=report.speed,
            sizes_bytes=_parent_and_candidate(report),
            footprint=report.footprint,
            slices=report.slices,
        ),
        section("What was proven", _evidence(report)),
        section("Quality", _quality(report)),
        section("Where it hurts", slices_section(report.slices, report.groups)),
        section("Speed and size", _speed(report)),
        section("What was done", steps_table(report.steps)),
        section("What was made smaller", chain_section(report.chain)),
        section("Precision of each product", mixed_section(report.mixed)),
        section("Training", _training(report)),
        section("Where it came from", _provenance(report)),
    )
    return page(f"{report.model} ({report.precision})", sections)


def _headline(report: Report) -> str:
    text = f"<h1>{html.escape(report.model)}</h1>"
    lead = f"{report.items:,} items, {report.users:,} users, {report.events:,} events; serves in {report.precision}"
    if report.description:
        lead = f"{html.escape(report.description)}. {lead}"
    text += f'<p class="lead">{lead}</p>'
    for flag in report.flags:
        text += flag_note(flag, _FLAGS.get(flag, ""))
    recall, ndcg = (report.figures.metrics.get(name) for name in ("recall@10", "ndcg@10"))
    text += (
        f"<p>On all {report.figures.n:,} tested users, through the engine that serves: "
        f"<b>Recall@10 {_number(recall)}</b>, <b>NDCG@10 {_number(ndcg)}</b> (the whole catalogue is ranked, items "
        "already seen are masked, ties count against the model)."
    )
    return text + "</p>"


def _parent_and_candidate(report: Report) -> tuple[int, int] | None:
    sizes = report.sizes_bytes
    return (sizes["parent"], sizes["candidate"]) if "parent" in sizes else None


def _evidence(report: Report) -> str:
    return evidence_table(report.evidence) + "<p class=lead>Measured on users whom calibration never saw.</p>"


def _quality(report: Report) -> str:
    models = list(report.gate)
    names = [name for name in _METRICS if any(name in report.gate[model].metrics for model in models)]
    rows = [
        f"<tr><td>{name}</td>"
        + "".join(_cell(report.gate[model].metrics.get(name)) for model in models)
        + "</tr>"
        for name in names
    ]
    slices = list(report.gate[models[0]].slices)
    slice_rows = []
    for name in slices:
        count = int(report.gate[models[0]].slices[name].get("n") or 0)
        cells = "".join(_cell(report.gate[model].slices[name].get(report.metric)) for model in models)
        slice_rows.append(f"<tr><td>{html.escape(name)}</td><td class=n>{count:,}</td>{cells}</tr>")
    bars = [
        Bar(group=name, name=model, value=_value(report.gate[model], name, report.metric))
        for name in ("all", *slices)
        for model in models
    ]
    return (
        table(("gate users", *models), rows, numbers=1)
        + table(("slice", "n", *(f"{model} {report.metric}" for model in models)), slice_rows, numbers=1)
        + bar_chart(f"{report.metric} by slice", bars, y_label=report.metric)
    )


def _speed(report: Report) -> str:
    candidate = [(float(one.batch_size), one.median_s * 1e3) for one in report.cost.measured]
    lines = [Line(name="candidate", points=candidate)]
    if report.speed:
        lines.append(
            Line(name="parent", points=[(float(row.batch_size), row.parent_s * 1e3) for row in report.speed])
        )
    targets = [
        f"<tr><td>{html.escape(one.kind)}</td><td>{html.escape(one.capability or 'CPU')}</td><td>{one.entry}</td>"
        f"<td>{one.proven}</td><td><code>{html.escape(one.file)}</code></td></tr>"
        for one in report.targets
    ]
    cost = report.cost
    return (
        speed_table(report.speed)
        + line_chart("Time a batch", lines, x_label="batch size", y_label="ms")
        + f"<p>One engine run costs {cost.base_s * 1e3:.3f} ms + {cost.per_item_s * 1e3:.4f} ms a request, on "
        f"{html.escape(cost.hardware)}.</p>"
        + sizes_table(report.sizes_bytes)
        + footprint_table(report.footprint, unit="requests")
        + table(("target", "for", "entry", "proven", "file"), targets)
    )


def _training(report: Report) -> str:
    loss = [(float(point.epoch), point.loss) for point in report.curve]
    metric = [(float(point.epoch), point.metric) for point in report.curve]
    rows = [
        f"<tr><td>{html.escape(name)}</td>{_cell(value)}</tr>" for name, value in report.validation.items()
    ]
    return (
        line_chart("Training loss", [Line(name="loss", points=loss)], x_label="epoch", y_label="loss")
        + line_chart("Validation", [Line(name="ndcg@10", points=metric)], x_label="epoch", y_label="ndcg@10")
        + table(("on validation", ""), rows)
    )


def _provenance(report: Report) -> str:
    more = []
    if report.calibration is not None:
        more.append(("calibration", f"{report.calibration.samples} histories, {report.calibration.method}"))
    return provenance_table(report.provenance, more)


def _cell(value: float | None) -> str:
    return f"<td class=n>{_number(value)}</td>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(figures: ModelFigures, name: str, metric: str) -> float:
    source = figures.metrics if name == "all" else figures.slices[name]
    value = source.get(metric)
    return float("nan") if value is None else value
