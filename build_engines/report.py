"""What was done to a model and what came of it, as one JSON document; the page shows just this.

Units: seconds, bytes; losses and leads are relative.
"""

from __future__ import annotations

import msgspec

from build_engines.compression.records import CompressRecord
from build_engines.compression.report import steps_taken
from build_engines.compression.step_records import StepRecord
from build_engines.proof.records import Footprint, GroupRow, SliceRow
from build_engines.records import CurvePoint, ModelFigures, SpeedRow
from build_engines.report_frame import StepTaken
from build_engines.states import Verified
from server.artifacts.manifest import Calibration, Cost, Measurement, Provenance, Target


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page shows.

    Attributes:
        model: its name.
        description: of the recipe.
        precision: of what serves.
        steps: what was done.
        chain: steps of compression before quantization.
        mixed: how each product's precision was chosen; None: all have the same.
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
        slices: where it may hurt.
        groups: fairness, group by group.
        footprint: of the engines, each in a process of its own.
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
    slices: tuple[SliceRow, ...]
    groups: tuple[GroupRow, ...]
    footprint: dict[str, Footprint]
    targets: tuple[Target, ...]
    calibration: Calibration | None
    provenance: Provenance
    chain: tuple[CompressRecord, ...] = ()
    mixed: StepRecord | None = None


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
    states = (loaded, trained.uncompressed, quantized, exported, compiled, verified)
    taken = [
        StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.record.notes)
        for state in states
    ]
    return Report(
        model=model,
        description=description,
        precision=exported.record.graph.precision,
        steps=(
            *taken[:2],
            *steps_taken((one.output, one.step) for one in trained.line if one.step is not None),
            *taken[2:],
        ),
        chain=trained.chain,
        mixed=quantized.record.mixed,
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
        slices=verified.record.slices,
        groups=verified.record.groups,
        footprint=verified.record.footprint,
        targets=targets,
        calibration=quantized.record.calibration,
        provenance=provenance,
    )


def report_json(report: Report) -> bytes:
    """The bytes of ``report.json``."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
