"""What was done to an encoder and what came of it: one JSON document, and the page that shows it.

Units: seconds, bytes, tokens.
"""

from __future__ import annotations

import html

import msgspec

from build_engines.compression.records import CompressRecord
from build_engines.compression.report import chain_section, mixed_section, steps_taken
from build_engines.compression.step_records import StepRecord
from build_engines.encoder.recipe import EncoderRecipe
from build_engines.encoder.states import EncoderVerified
from build_engines.intents.records import IntentsRecord
from build_engines.proof.records import Footprint, SliceRow
from build_engines.records import SpeedRow
from build_engines.report_frame import (
    StepTaken,
    evidence_table,
    kernels_table,
    page,
    provenance_table,
    row,
    section,
    sizes_table,
    speed_table,
    steps_table,
    table,
)
from build_engines.report_summary import footprint_table, plain_words, slices_section
from server.artifacts.manifest import Calibration, Cost, Measurement, Provenance


class EncoderReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page shows.

    Attributes:
        model, description: of the recipe.
        origin, family, parameters: of the checkpoint.
        flags: what a reader must know ("trained_small").
        precision, dim, max_tokens: of what serves.
        steps: what was done.
        evidence: against limits.
        cosine: mean, 1st percentile and least, to the FP32 parent.
        recall, accuracy: by engine; empty where they were not measured.
        intents: how the head was trained; None: there is none.
        speed: parent against candidate.
        cost: of a batch of n texts of ``cost_tokens`` tokens.
        cost_tokens: of each.
        sizes_bytes: by engine.
        kernels: of the optimized graph.
        slices: where it may hurt.
        footprint: of the engines, each in a process of its own.
        calibration: what roundings were measured on.
        provenance: enough to make it again.
    """

    model: str
    description: str
    origin: str
    family: str
    parameters: int
    flags: tuple[str, ...]
    precision: str
    dim: int
    max_tokens: int
    steps: tuple[StepTaken, ...]
    evidence: tuple[Measurement, ...]
    cosine: tuple[float, float, float]
    recall: dict[str, float]
    accuracy: dict[str, float]
    intents: IntentsRecord | None
    speed: tuple[SpeedRow, ...]
    cost: Cost
    cost_tokens: int
    sizes_bytes: dict[str, int]
    kernels: dict[str, int]
    slices: tuple[SliceRow, ...]
    footprint: dict[str, Footprint]
    calibration: Calibration | None
    provenance: Provenance
    chain: tuple[CompressRecord, ...] = ()
    mixed: StepRecord | None = None


def make_encoder_report(
    verified: EncoderVerified, recipe: EncoderRecipe, provenance: Provenance
) -> EncoderReport:
    """Collect what every stage on the way to ``verified`` has to say."""
    packaged = verified.packaged
    headed = packaged.headed
    loaded, record, engine = headed.loaded.record, verified.record, packaged.record.candidate
    engines = (engine, packaged.record.parent)
    whole = headed.loaded.uncompressed
    taken = [
        StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.record.notes)
        for state in (whole, headed, packaged, verified)
    ]
    return EncoderReport(
        model=recipe.model.name,
        description=recipe.model.description,
        origin=loaded.origin,
        family=loaded.family,
        parameters=engine.parameters,
        flags=loaded.flags,
        precision=engine.precision,
        dim=engine.limits["dim"],
        max_tokens=engine.limits["max_tokens"],
        steps=(
            taken[0],
            *steps_taken((one.output, one.step) for one in headed.loaded.line if one.step is not None),
            *taken[1:],
        ),
        chain=headed.loaded.chain,
        mixed=packaged.record.mixed,
        evidence=record.evidence,
        cosine=record.cosine,
        recall=record.recall,
        accuracy=record.accuracy,
        intents=headed.record.intents,
        speed=record.speed,
        cost=record.cost,
        cost_tokens=record.cost_tokens,
        sizes_bytes={one.precision: one.size_bytes for one in engines if one is not None},
        kernels=engine.kernels,
        slices=record.slices,
        footprint=record.footprint,
        calibration=packaged.record.calibration,
        provenance=provenance,
    )


def encoder_report_html(report: EncoderReport) -> str:
    """The page."""
    lead = (
        f"{html.escape(report.description)}. {html.escape(report.origin)}: {html.escape(report.family)}, "
        f"{report.parameters / 1e6:,.1f} million parameters; serves in {report.precision}, vectors of {report.dim}, "
        f"texts of up to {report.max_tokens} tokens"
    )
    body = (
        f'<h1>{html.escape(report.model)}</h1><p class="lead">{lead}</p>',
        plain_words(
            evidence=report.evidence, speed=report.speed, sizes_bytes=_sizes(report), footprint=report.footprint,
            slices=report.slices,
        ),
        section("What was proven", evidence_table(report.evidence) + "<p class=lead>Measured on texts that calibration "
                "did not see.</p>"),
        section("Quality", _quality(report)),
        section("Where it hurts", slices_section(report.slices)),
        section("Intents", _intents(report)),
        section("Speed and size", _speed(report)),
        section("What was done", steps_table(report.steps)),
        section("What was made smaller", chain_section(report.chain)),
        section("Precision of each product", mixed_section(report.mixed)),
        section("Where it came from", provenance_table(report.provenance, _calibration(report))),
    )  # fmt: skip
    return page(f"{report.model} ({report.precision})", body)


def _sizes(report: EncoderReport) -> tuple[int, int] | None:
    after = report.sizes_bytes[report.precision]
    return (report.sizes_bytes["fp32"], after) if len(report.sizes_bytes) > 1 else None


def _quality(report: EncoderReport) -> str:
    rows = [
        ("cosine with the FP32 parent, mean", report.cosine[0]),
        ("cosine, 1st percentile", report.cosine[1]),
        ("cosine, least", report.cosine[2]),
        *((f"passage found first (R@1), {name}", value) for name, value in report.recall.items()),
        *((f"intents right, {name}", value) for name, value in report.accuracy.items()),
    ]
    return table(("", ""), [row(name, f"{value:.4f}") for name, value in rows], numbers=1)


def _intents(report: EncoderReport) -> str:
    if report.intents is None:
        return ""
    rows = [
        f"<tr><td>{html.escape(one.name)}</td><td class=n>{one.texts}</td><td class=n>{one.accuracy:.4f}</td>"
        f"<td class=n>{one.macro_f1:.4f}</td><td class=n>{one.ece:.4f}</td><td class=n>{one.coverage:.1%}</td>"
        f"<td class=n>{one.answered_accuracy:.1%}</td><td class=n>{one.out_answered:.1%}</td></tr>"
        for one in report.intents.figures
    ]
    head = (
        "set",
        "texts",
        "accuracy",
        "macro F1",
        "ECE",
        "get an intent",
        "of those right",
        "outside answered",
    )
    return table(head, rows) + '<p><a href="intents_report.html">All about the intents</a></p>'


def _speed(report: EncoderReport) -> str:
    costs = [
        f"<tr><td class=n>{one.batch_size}</td><td class=n>{one.median_s * 1e3:.3f}</td>"
        f"<td class=n>{one.batch_size / one.median_s:,.0f}</td></tr>"
        for one in report.cost.measured
    ]
    return (
        speed_table(report.speed, first="texts at once")
        + table((f"texts of {report.cost_tokens} tokens at once", "ms", "texts/s"), costs)
        + sizes_table(report.sizes_bytes)
        + footprint_table(report.footprint, unit="texts")
        + kernels_table(report.kernels)
    )


def _calibration(report: EncoderReport) -> list[tuple[str, str]]:
    found = report.calibration
    return [] if found is None else [("calibration", f"{found.samples} texts, {found.method}")]
