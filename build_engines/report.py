"""What was done to a model and what came of it, as one JSON document; the page shows just this.

Units: seconds, bytes; losses and leads are relative.
"""

from __future__ import annotations

import msgspec

from build_engines.records import CurvePoint, ModelFigures, SpeedRow
from build_engines.states import Verified
from server.artifacts.manifest import Calibration, Cost, Measurement, Provenance, Target

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


class StepTaken(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: its name, how long it took, what it has to say."""

    stage: str
    seconds: float
    notes: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page shows.

    Attributes:
        model: its name.
        description: of the recipe.
        precision: of what serves.
        steps: what was done.
        users: in the log.
        items: in the catalogue.
        events: in the log.
        metric: what the gate judged by.
        figures: of the candidate on all tested users.
        evidence: against limits.
        flags: what a reader must know.
        gate: figures by model on the gate's users.
        validation: figures of the parts on validation.
        curve: training.
        speed: parent against candidate.
        cost: of the candidate.
        sizes_bytes: by model.
        targets: what was compiled.
        calibration: on what scales were measured.
        provenance: enough to make it again.
    """

    model: str
    description: str
    precision: str
    steps: tuple[StepTaken, ...]
    users: int
    items: int
    events: int
    metric: str
    figures: ModelFigures
    evidence: tuple[Measurement, ...]
    flags: tuple[str, ...]
    gate: dict[str, ModelFigures]
    validation: dict[str, float]
    curve: tuple[CurvePoint, ...]
    speed: tuple[SpeedRow, ...]
    cost: Cost
    sizes_bytes: dict[str, int]
    targets: tuple[Target, ...]
    calibration: Calibration | None
    provenance: Provenance


def make_report(
    verified: Verified,
    *,
    model: str,
    description: str,
    metric: str,
    targets: tuple[Target, ...],
    provenance: Provenance,
) -> Report:
    """Collect what every stage on the way to ``verified`` has to say."""
    compiled = verified.compiled
    exported = compiled.exported
    quantized = exported.quantized
    trained = quantized.trained
    loaded = trained.loaded
    states = (loaded, trained, quantized, exported, compiled, verified)
    return Report(
        model=model,
        description=description,
        precision=exported.record.graph.precision,
        steps=tuple(
            StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.record.notes)
            for state in states
        ),
        users=loaded.record.users,
        items=loaded.record.items,
        events=loaded.record.events,
        metric=metric,
        figures=verified.record.test["candidate"],
        evidence=verified.record.evidence,
        flags=verified.record.flags,
        gate=verified.record.gate,
        validation=trained.record.figures,
        curve=trained.record.curve,
        speed=verified.record.speed,
        cost=verified.record.cost,
        sizes_bytes=verified.record.sizes_bytes,
        targets=targets,
        calibration=quantized.record.calibration,
        provenance=provenance,
    )


def report_json(report: Report) -> bytes:
    """The bytes of ``report.json``."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
