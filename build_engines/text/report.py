"""What was done to a text model and what came of it: one JSON document, and the page that shows it.

Units: seconds, bytes, tokens; losses are nats a token.
"""

from __future__ import annotations

import html

import msgspec

from build_engines.progress import duration
from build_engines.records import SpeedRow
from build_engines.report import StepTaken
from build_engines.report_html import STYLE, evidence_table, provenance_table, section, table
from build_engines.report_svg import Line, line_chart
from build_engines.text.recipe import TextRecipe
from build_engines.text.records import LossRow, Sample
from build_engines.text.states import TextVerified
from server.artifacts.manifest import Calibration, Cost, Measurement, Provenance

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_DEMONSTRATION = (
    "This is a demonstration: a small model trained on generated copy of a generated shop. It shows the line and the server "
    "at work and is not meant for a real catalogue."
)


class TextReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page shows.

    Attributes:
        model, description: of the recipe.
        demonstration: see ``TextModelPart``.
        family, parameters: of the checkpoint.
        precision: of what serves.
        max_context: tokens.
        steps: what was done.
        pairs: by side of the split.
        evidence: against limits.
        perplexity: by model.
        before, best, curve: of fine-tuning, where there was one.
        speed: parent against candidate.
        cost: of a decode step of n texts.
        sizes_bytes: by model.
        kernels: of the optimized graph.
        samples: what it writes.
        calibration: what scales were measured on.
        provenance: enough to make it again.
    """

    model: str
    description: str
    demonstration: bool
    family: str
    parameters: int
    precision: str
    max_context: int
    steps: tuple[StepTaken, ...]
    pairs: dict[str, int]
    evidence: tuple[Measurement, ...]
    perplexity: dict[str, float]
    before: float | None
    best: float | None
    curve: tuple[LossRow, ...]
    speed: tuple[SpeedRow, ...]
    cost: Cost
    sizes_bytes: dict[str, int]
    kernels: dict[str, int]
    samples: tuple[Sample, ...]
    calibration: Calibration | None
    provenance: Provenance


def make_text_report(verified: TextVerified, recipe: TextRecipe, provenance: Provenance) -> TextReport:
    """Collect what every stage on the way to ``verified`` has to say."""
    packaged = verified.packaged
    tuned = packaged.tuned
    loaded, engine, record = tuned.loaded.record, packaged.record.candidate, verified.record
    return TextReport(
        model=recipe.model.name,
        description=recipe.model.description,
        demonstration=recipe.model.demonstration,
        family=loaded.family,
        parameters=loaded.parameters,
        precision=engine.precision,
        max_context=engine.limits["max_context"],
        steps=tuple(
            StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.record.notes)
            for state in (tuned.loaded, tuned, packaged, verified)
        ),
        pairs=loaded.pairs,
        evidence=record.evidence,
        perplexity=record.perplexity,
        before=tuned.record.before,
        best=tuned.record.best,
        curve=tuned.record.curve,
        speed=record.speed,
        cost=record.cost,
        sizes_bytes=record.sizes_bytes,
        kernels=engine.kernels,
        samples=record.samples,
        calibration=packaged.record.calibration,
        provenance=provenance,
    )


def text_report_html(report: TextReport) -> str:
    """The page."""
    lead = (
        f"{html.escape(report.description)}. {html.escape(report.family)}, {report.parameters / 1e6:,.1f} million "
        f"parameters; serves in {report.precision}, {report.max_context:,} tokens of context"
    )
    flag = f'<p class="flag"><b>demonstration</b> {_DEMONSTRATION}</p>' if report.demonstration else ""
    body = (
        f'<h1>{html.escape(report.model)}</h1><p class="lead">{lead}</p>{flag}',
        section("What was proven", evidence_table(report.evidence) + "<p class=lead>Measured on pairs whose products "
                "neither training nor calibration saw.</p>"),
        section("Quality", _quality(report)),
        section("Speed and size", _speed(report)),
        section("What it writes", _samples(report)),
        section("Fine-tuning", _training(report)),
        section("What was done", _steps(report)),
        section("Where it came from", provenance_table(report.provenance, _calibration(report))),
    )  # fmt: skip
    title = html.escape(f"{report.model} ({report.precision})")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _quality(report: TextReport) -> str:
    rows = [
        f"<tr><td>{html.escape(name)}</td><td class=n>{value:.4g}</td></tr>"
        for name, value in report.perplexity.items()
    ]
    return table(("", "perplexity of an answer's token"), rows, numbers=1)


def _speed(report: TextReport) -> str:
    rows = [
        f"<tr><td class=n>{row.batch_size}</td><td class=n>{row.parent_s * 1e3:.3f}</td>"
        f"<td class=n>{row.candidate_s * 1e3:.3f}</td><td class=n>{row.speedup:.2f}</td>"
        f"<td>[{row.interval[0]:.2f}, {row.interval[1]:.2f}]</td></tr>"
        for row in report.speed
    ]
    steps = [
        f"<tr><td class=n>{one.batch_size}</td><td class=n>{one.median_s * 1e3:.3f}</td>"
        f"<td class=n>{one.batch_size / one.median_s:,.0f}</td></tr>"
        for one in report.cost.measured
    ]
    sizes = [
        f"<tr><td>{html.escape(name)}</td><td class=n>{size / 1e6:.2f}</td></tr>"
        for name, size in report.sizes_bytes.items()
    ]
    kernels = [
        f"<tr><td>{html.escape(name)}</td><td class=n>{count}</td></tr>"
        for name, count in report.kernels.items()
    ]
    return (
        (
            table(("texts at once", "parent ms", "candidate ms", "speed-up", "95 % interval"), rows)
            if rows
            else ""
        )
        + table(("texts at once", "ms a decode step", "tokens/s"), steps)
        + table(("size", "MB"), sizes)
        + table(("kernel", "nodes"), kernels)
    )


def _samples(report: TextReport) -> str:
    return "".join(
        f"<pre>{html.escape(one.prompt)}</pre><p>{html.escape(one.text)}</p>" for one in report.samples
    )


def _training(report: TextReport) -> str:
    if not report.curve:
        return ""
    lines = [
        Line(name="training", points=[(float(one.step), one.loss) for one in report.curve]),
        Line(name="held out", points=[(float(one.step), one.heldout_loss) for one in report.curve]),
    ]
    text = f"<p>Held-out loss {report.before:.4f} before, {report.best:.4f} after.</p>"
    return text + line_chart("Loss", lines, x_label="step", y_label="nats a token")


def _steps(report: TextReport) -> str:
    rows = [
        f"<tr><td>{html.escape(step.stage)}</td><td class=n>{duration(step.seconds)}</td>"
        f"<td>{'<br>'.join(html.escape(note) for note in step.notes)}</td></tr>"
        for step in report.steps
    ]
    return table(("stage", "time", ""), rows)


def _calibration(report: TextReport) -> list[tuple[str, str]]:
    found = report.calibration
    return [] if found is None else [("calibration", f"{found.samples} texts, {found.method}")]
