"""The report as one self-contained page: a product manager can read it, an engineer can trust it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from build_engines.progress import duration
from build_engines.records import ModelFigures
from build_engines.report import Report
from build_engines.report_svg import Bar, Line, bar_chart, line_chart
from server.artifacts.manifest import Measurement, Provenance

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem} h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #eee;vertical-align:top}
td.n,th.n{text-align:right} .pass{color:#20703a} .fail,.undecidable{color:#a3341b} .lead{color:#555}
svg{max-width:34rem;width:100%;height:auto;display:inline-block;margin:.5rem 1rem .5rem 0;font-family:inherit}
pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:12px} code{font-size:13px}
.flag{background:#fff3d6;border:1px solid #e4c56a;padding:.5rem .8rem}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}pre{background:#222}
th,td{border-color:#333}.lead{color:#aaa}svg{background:#fff;border-radius:4px}.flag{background:#3b3110}}
"""

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
        section("What was proven", _evidence(report)),
        section("Quality", _quality(report)),
        section("Speed and size", _speed(report)),
        section("What was done", _steps(report)),
        section("Training", _training(report)),
        section("Where it came from", _provenance(report)),
    )
    title = html.escape(f"{report.model} ({report.precision})")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def _headline(report: Report) -> str:
    text = f"<h1>{html.escape(report.model)}</h1>"
    lead = f"{report.items:,} items, {report.users:,} users, {report.events:,} events; serves in {report.precision}"
    if report.description:
        lead = f"{html.escape(report.description)}. {lead}"
    text += f'<p class="lead">{lead}</p>'
    for flag in report.flags:
        text += f'<p class="flag"><b>{html.escape(flag)}</b> {html.escape(_FLAGS.get(flag, ""))}</p>'
    recall, ndcg = (report.figures.metrics.get(name) for name in ("recall@10", "ndcg@10"))
    text += (
        f"<p>On all {report.figures.n:,} tested users, through the engine that serves: "
        f"<b>Recall@10 {_number(recall)}</b>, <b>NDCG@10 {_number(ndcg)}</b> (the whole catalogue is ranked, items "
        "already seen are masked, ties count against the model)."
    )
    for row in report.speed:
        if row.batch_size == report.speed[0].batch_size:
            text += f" At batch {row.batch_size} it is <b>{row.speedup:.2f} x</b> as fast as its FP32 parent."
    return text + "</p>"


def _evidence(report: Report) -> str:
    return evidence_table(report.evidence) + "<p class=lead>Measured on users whom calibration never saw.</p>"


def evidence_table(evidence: Sequence[Measurement]) -> str:
    """Each figure against its limit."""
    rows = []
    for item in evidence:
        interval = "" if item.interval is None else f"[{item.interval[0]:.4g}, {item.interval[1]:.4g}]"
        verdict = item.verdict if item.waived_by is None else f"{item.verdict}, waived by {item.waived_by}"
        side = "at most" if item.sense == "at_most" else "at least"
        rows.append(
            f"<tr><td>{html.escape(item.name)}</td><td class=n>{item.value:.4g}</td><td>{interval}</td>"
            f"<td>{side} {item.limit:.4g}</td><td class=n>{item.sample_size:,}</td>"
            f'<td class="{item.verdict}">{html.escape(verdict)}</td><td>{html.escape(item.note)}</td></tr>'
        )
    return table(("what", "figure", "95 % interval", "limit", "n", "verdict", ""), rows)


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
    rows = [
        f"<tr><td class=n>{row.batch_size}</td><td class=n>{row.parent_s * 1e3:.3f}</td>"
        f"<td class=n>{row.candidate_s * 1e3:.3f}</td><td class=n>{row.speedup:.2f}</td>"
        f"<td>[{row.interval[0]:.2f}, {row.interval[1]:.2f}]</td></tr>"
        for row in report.speed
    ]
    candidate = [(float(one.batch_size), one.median_s * 1e3) for one in report.cost.measured]
    lines = [Line(name="candidate", points=candidate)]
    if report.speed:
        lines.append(
            Line(name="parent", points=[(float(row.batch_size), row.parent_s * 1e3) for row in report.speed])
        )
    sizes = [
        f"<tr><td>{html.escape(name)}</td><td class=n>{size / 1e6:.2f}</td></tr>"
        for name, size in report.sizes_bytes.items()
    ]
    targets = [
        f"<tr><td>{html.escape(one.kind)}</td><td>{html.escape(one.capability or 'CPU')}</td><td>{one.entry}</td>"
        f"<td>{one.proven}</td><td><code>{html.escape(one.file)}</code></td></tr>"
        for one in report.targets
    ]
    cost = report.cost
    return (
        (table(("batch", "parent ms", "candidate ms", "speed-up", "95 % interval"), rows) if rows else "")
        + line_chart("Time a batch", lines, x_label="batch size", y_label="ms")
        + f"<p>One engine run costs {cost.base_s * 1e3:.3f} ms + {cost.per_item_s * 1e3:.4f} ms a request, on "
        f"{html.escape(cost.hardware)}.</p>"
        + table(("size", "MB"), sizes)
        + table(("target", "for", "entry", "proven", "file"), targets)
    )


def _steps(report: Report) -> str:
    rows = [
        f"<tr><td>{html.escape(step.stage)}</td><td class=n>{duration(step.seconds)}</td>"
        f"<td>{'<br>'.join(html.escape(note) for note in step.notes)}</td></tr>"
        for step in report.steps
    ]
    return table(("stage", "time", ""), rows)


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


def provenance_table(origin: Provenance, more: Sequence[tuple[str, str]] = ()) -> str:
    """Where a version came from, and its recipe."""
    facts = [
        *(("data " + name, digest) for name, digest in origin.data.items()),
        ("recipe SHA-256", origin.recipe_sha256),
        ("build", origin.build),
        ("code", origin.code_version),
        *(("package " + name, version) for name, version in origin.packages.items()),
        *(("machine " + name, text) for name, text in origin.hardware.items()),
        *(("seed " + name, str(seed)) for name, seed in origin.seeds.items()),
        *more,
    ]
    rows = [
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(text)}</code></td></tr>"
        for name, text in facts
    ]
    return table(("", ""), rows) + f"<pre>{html.escape(origin.recipe)}</pre>"


def section(title: str, body: str) -> str:
    """A heading and what stands under it; nothing where there is nothing."""
    return f"<h2>{html.escape(title)}</h2>{body}" if body else ""


def table(head: Sequence[str], rows: Iterable[str], *, numbers: int | None = None) -> str:
    """Rows under a head; columns from ``numbers`` on are headed as figures."""
    cells = (
        f"<th{' class=n' if numbers is not None and place >= numbers else ''}>{html.escape(name)}</th>"
        for place, name in enumerate(head)
    )
    return f"<table><thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value: float | None) -> str:
    return f"<td class=n>{_number(value)}</td>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(figures: ModelFigures, name: str, metric: str) -> float:
    source = figures.metrics if name == "all" else figures.slices[name]
    value = source.get(metric)
    return float("nan") if value is None else value
