"""What each stage says about its result: small records, written beside its files.

They are the part of a state that fits in a JSON file; arrays and graphs stay in files. A record with an
unknown key is of another version of this code and is never read: the stage's key has the code in it.

Units: seconds, bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from build_engines.compression.step_records import StepRecord
from build_engines.data.splits import SplitRule
from build_engines.models.mix import MixConfig
from build_engines.proof.records import Footprint, GroupRow, SliceRow
from build_engines.recipe_parts import NetworkPart
from server.artifacts.manifest import Calibration, Constant, Cost, Measurement, Target, TensorInfo, Tolerance


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class LoadRecord(_Record, frozen=True, kw_only=True):
    """What the data is.

    Attributes:
        users: in the log.
        items: in the catalogue.
        events: in the log.
        tested_users: whom the split can test.
        gate_users: of those, whom the gate judges on.
        calibration_users: set apart for calibration.
        sources: SHA-256 of each file, by name.
        split: how users were divided; later stages divide them the same way.
        notes: what was found and done, a sentence each.
    """

    users: int
    items: int
    events: int
    tested_users: int
    gate_users: int
    calibration_users: int
    sources: dict[str, str]
    split: SplitRule
    notes: tuple[str, ...] = ()


class CurvePoint(_Record, frozen=True, kw_only=True):
    """One epoch: training loss, and the metric on validation where it was measured."""

    epoch: int
    loss: float
    metric: float | None
    seconds: float


class TrainRecord(_Record, frozen=True, kw_only=True):
    """How training went.

    Attributes:
        metric: what the curve measures.
        curve: one point an epoch.
        figures: validation figures by model and metric ("neural ndcg@10", "counts ndcg@10", "mix ndcg@10").
        network: sizes of the network.
        mix: the served mix, chosen on validation.
        counts: the best mix of counts alone: the floor.
        item_features: how many features items share.
        seeds: by what they seeded.
        notes: a sentence each.
    """

    metric: str
    curve: tuple[CurvePoint, ...]
    figures: dict[str, float]
    network: NetworkPart
    mix: MixConfig
    counts: MixConfig
    item_features: int
    seeds: dict[str, int]
    notes: tuple[str, ...] = ()


class QuantizeRecord(_Record, frozen=True, kw_only=True):
    """What precision the candidate has.

    Attributes:
        precision: "fp32" (the parent itself) or "int8".
        calibration: what the scales were measured on; None for fp32.
        scales: activation scales by place.
        scored: how product codes of the item table are scored; empty: it has none.
        neighbours: most transitions of an item that are kept (0: as they are).
        mixed: how each linear's precision was chosen; None: all have the same.
        notes: a sentence each.
    """

    precision: str
    calibration: Calibration | None = None
    scales: dict[str, float] = {}
    scored: Literal["", "decoded", "lookup"] = ""
    neighbours: int = 0
    mixed: StepRecord | None = None
    notes: tuple[str, ...] = ()


class GraphRecord(_Record, frozen=True, kw_only=True):
    """One ONNX graph and its tables; paths are relative to one folder.

    Attributes:
        file: the graph with the candidate mask.
        entries: further graphs by name ("unmasked").
        precision: "fp32" or "int8".
        inputs: per-run inputs.
        outputs: outputs.
        tables: stored tables.
        limits: "max_batch", "max_history", "max_k", "max_exclude".
        parameters: "decay", "window" ...
    """

    file: str
    precision: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    tables: tuple[Constant, ...]
    limits: dict[str, int]
    parameters: dict[str, float]
    entries: dict[str, str] = {}


class ExportRecord(_Record, frozen=True, kw_only=True):
    """The graph that is to serve, and the uncompressed one that it must not be worse than.

    Paths are relative to the folders ``candidate`` and ``parent`` of the stage.

    Attributes:
        graph: the candidate.
        parent: the FP32 parent; None when the candidate is it.
        notes: a sentence each.
    """

    graph: GraphRecord
    parent: GraphRecord | None
    notes: tuple[str, ...] = ()


class CompileRecord(_Record, frozen=True, kw_only=True):
    """The compiled forms; paths are relative to the folders ``candidate`` and ``parent`` of the stage.

    Attributes:
        targets: of the candidate, without costs.
        parent: of the parent, for the machine that measures; empty when the candidate is it.
        notes: a sentence each.
    """

    targets: tuple[Target, ...]
    parent: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


class SpeedRow(_Record, frozen=True, kw_only=True):
    """Parent and candidate at one batch size, measured in turn; medians in seconds."""

    batch_size: int
    parent_s: float
    candidate_s: float
    speedup: float
    interval: tuple[float, float]
    rounds: int


class ModelFigures(_Record, frozen=True, kw_only=True):
    """One model's figures on one set of cases, whole and by slice ("head": {"n": 812, "ndcg@10": 0.07})."""

    n: int
    metrics: dict[str, float | None]
    slices: dict[str, dict[str, float | None]]


class VerifyRecord(_Record, frozen=True, kw_only=True):
    """What the gate measured.

    Attributes:
        evidence: against limits.
        flags: what a reader must know ("below_floor").
        cost: of the candidate on the target that was measured.
        speed: parent against candidate; empty when there is one model only.
        tolerance: of the golden replay.
        gate: figures by model on the gate's users ("candidate", "parent", "counts", "popularity").
        test: figures of the candidate on all tested users: the ones to publish.
        sizes_bytes: tables and engine as one server holds them, and the item table alone, by model.
        hardware: the machine.
        notes: a sentence each.
        slices: candidate against parent on each slice; empty when there is one model only.
        groups: fairness, group by group.
        footprint: of "candidate" and "parent", each in a process of its own.
    """

    evidence: tuple[Measurement, ...]
    flags: tuple[str, ...]
    cost: Cost
    speed: tuple[SpeedRow, ...]
    tolerance: Tolerance
    gate: dict[str, ModelFigures]
    test: dict[str, ModelFigures]
    sizes_bytes: dict[str, int]
    hardware: dict[str, str]
    notes: tuple[str, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    footprint: dict[str, Footprint] = {}
