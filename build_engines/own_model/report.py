"""What was done to somebody's own model and what came of it: one JSON document, and the page that shows it.

Units: seconds, bytes.
"""

from __future__ import annotations

import html

import msgspec

from build_engines.own_model.states import OwnCompiled
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
from server.artifacts.manifest import Cost, Measurement, Provenance, TensorInfo

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


class OwnReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page shows.

    Attributes:
        model: its name.
        description: of the recipe.
        origin: where the graph came from.
        precision: of what serves.
        inputs: of the graph.
        outputs: of the graph.
        parameters: values in the source's initializers.
        steps: what was done.
        evidence: against limits.
        quality: figures by name.
        speed: parent against candidate.
        cost: of the candidate.
        sizes_bytes: by engine.
        kernels: integer kernels of the optimized graph.
        provenance: enough to make it again.
    """

    model: str
    description: str
    origin: str
    precision: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    steps: tuple[StepTaken, ...]
    evidence: tuple[Measurement, ...]
    quality: dict[str, float]
    speed: tuple[SpeedRow, ...]
    cost: Cost
    sizes_bytes: dict[str, int]
    kernels: dict[str, int]
    provenance: Provenance


def make_own_report(
    compiled: OwnCompiled,
    *,
    model: str,
    description: str,
    steps: tuple[StepTaken, ...],
    evidence: tuple[Measurement, ...],
    quality: dict[str, float],
    speed: tuple[SpeedRow, ...],
    cost: Cost,
    provenance: Provenance,
) -> OwnReport:
    """Collect what is known."""
    graph = compiled.quantized.source.graph
    return OwnReport(
        model=model,
        description=description,
        origin=graph.origin,
        precision=compiled.record.targets[0].precision,
        inputs=graph.inputs,
        outputs=graph.outputs,
        parameters=graph.parameters,
        steps=steps,
        evidence=evidence,
        quality=quality,
        speed=speed,
        cost=cost,
        sizes_bytes=compiled.record.sizes_bytes,
        kernels=compiled.record.fused,
        provenance=provenance,
    )


def own_report_html(report: OwnReport) -> str:
    """The page."""
    lead = (
        f"{html.escape(report.description)}. {html.escape(report.origin)}: {report.parameters / 1e6:,.2f} million parameters; "
        f"serves in {report.precision}"
    )
    tensors = [
        row(kind, one.name, one.dtype, " x ".join(map(str, one.shape)) or "one number", numbers=4)
        for kind, many in (("input", report.inputs), ("output", report.outputs))
        for one in many
    ]
    costs = [
        row(
            str(one.batch_size),
            f"{one.median_s * 1e3:.3f}",
            f"{one.batch_size / one.median_s:,.0f}",
            numbers=0,
        )
        for one in report.cost.measured
    ]
    quality = [row(name, f"{value:.4f}") for name, value in report.quality.items()]
    body = (
        f'<h1>{html.escape(report.model)}</h1><p class="lead">{lead}</p>',
        section("What was proven", evidence_table(report.evidence)),
        section("Quality", table(("", ""), quality, numbers=1) if quality else ""),
        section(
            "Speed and size",
            speed_table(report.speed, first="rows at once")
            + table(("rows at once", "ms", "rows/s"), costs)
            + sizes_table(report.sizes_bytes)
            + (kernels_table(report.kernels) if report.kernels else ""),
        ),
        section("Its tensors", table(("", "name", "dtype", "shape"), tensors)),
        section("What was done", steps_table(report.steps)),
        section("Where it came from", provenance_table(report.provenance)),
    )
    return page(f"{report.model} ({report.precision})", body)


def report_json(report: OwnReport) -> bytes:
    """The bytes of ``report.json``."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
