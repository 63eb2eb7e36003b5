"""What was done to a text model and what came of it: one JSON document, and the page that shows it.

Units: seconds, bytes, tokens; losses are nats a token.
"""

from __future__ import annotations

import html

import msgspec

from build_engines.compression.records import CompressRecord
from build_engines.compression.report import chain_section, mixed_section, steps_taken
from build_engines.compression.step_records import StepRecord
from build_engines.proof.records import Footprint, SliceRow
from build_engines.records import SpeedRow
from build_engines.report_frame import (
    StepTaken,
    evidence_table,
    flag_note,
    kernels_table,
    page,
    provenance_table,
    section,
    sizes_table,
    speed_table,
    steps_table,
    table,
)
from build_engines.report_summary import footprint_table, plain_words, slices_section
from build_engines.report_svg import Line, line_chart
from build_engines.text.recipe import TextRecipe
from build_engines.text.records import LossRow, Sample
from build_engines.text.states import TextVerified
from server.artifacts.manifest import Calibration, Cost, Measurement, Provenance

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
        slices: where it may hurt.
        footprint: of the engines, each in a process of its own.
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
    slices: tuple[SliceRow, ...]
    footprint: dict[str, Footprint]
    samples: tuple[Sample, ...]
    calibration: Calibration | None
    provenance: Provenance
    chain: tuple[CompressRecord, ...] = ()
    mixed: StepRecord | None = None


def make_text_report(verified: TextVerified, recipe: TextRecipe, provenance: Provenance) -> TextReport:
    """Collect what every stage on the way to ``verified`` has to say."""
    packaged = verified.packaged
    tuned = packaged.tuned
    loaded, engine, record = tuned.loaded.record, packaged.record.candidate, verified.record
    states = (tuned.loaded, tuned.uncompressed, packaged, verified)
    taken = [
        StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.record.notes)
        for state in states
    ]
    return TextReport(
        model=recipe.model.name,
        description=recipe.model.description,
        demonstration=recipe.model.demonstration,
        family=loaded.family,
        parameters=tuned.chain[-1].parameters_after if tuned.chain else loaded.parameters,
        precision=engine.precision,
        max_context=engine.limits["max_context"],
        steps=(
            *taken[:2],
            *steps_taken((one.output, one.step) for one in tuned.line if one.step is not None),
            *taken[2:],
        ),
        chain=tuned.chain,
        mixed=packaged.record.mixed,
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
        slices=record.slices,
        footprint=record.footprint,
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
    flag = flag_note("demonstration", _DEMONSTRATION) if report.demonstration else ""
    body = (
        f'<h1>{html.escape(report.model)}</h1><p class="lead">{lead}</p>{flag}',
        plain_words(
            evidence=report.evidence, speed=report.speed, sizes_bytes=_sizes(report), footprint=report.footprint,
            slices=report.slices,
        ),
        section("What was proven", evidence_table(report.evidence) + "<p class=lead>Measured on pairs whose products "
                "neither training nor calibration saw.</p>"),
        section("Quality", _quality(report)),
        section("Where it hurts", slices_section(report.slices)),
        section("Speed and size", _speed(report)),
        section("What it writes", _samples(report)),
        section("Fine-tuning", _training(report)),
        section("What was done", steps_table(report.steps)),
        section("What was made smaller", chain_section(report.chain)),
        section("Precision of each product", mixed_section(report.mixed)),
        section("Where it came from", provenance_table(report.provenance, _calibration(report))),
    )  # fmt: skip
    return page(f"{report.model} ({report.precision})", body)


def _sizes(report: TextReport) -> tuple[int, int] | None:
    sizes = report.sizes_bytes
    return (sizes["parent"], sizes["candidate"]) if "parent" in sizes else None


def _quality(report: TextReport) -> str:
    rows = [
        f"<tr><td>{html.escape(name)}</td><td class=n>{value:.4g}</td></tr>"
        for name, value in report.perplexity.items()
    ]
    return table(("", "perplexity of an answer's token"), rows, numbers=1)


def _speed(report: TextReport) -> str:
    steps = [
        f"<tr><td class=n>{one.batch_size}</td><td class=n>{one.median_s * 1e3:.3f}</td>"
        f"<td class=n>{one.batch_size / one.median_s:,.0f}</td></tr>"
        for one in report.cost.measured
    ]
    return (
        speed_table(report.speed, first="texts at once")
        + table(("texts at once", "ms a decode step", "tokens/s"), steps)
        + sizes_table(report.sizes_bytes)
        + footprint_table(report.footprint, unit="tokens")
        + kernels_table(report.kernels)
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


def _calibration(report: TextReport) -> list[tuple[str, str]]:
    found = report.calibration
    return [] if found is None else [("calibration", f"{found.samples} texts, {found.method}")]
