"""What each stage of the line of somebody's own model says about its result.

Units: seconds, bytes.
"""

from __future__ import annotations

import msgspec

from build_engines.records import SpeedRow
from server.artifacts.manifest import Calibration, Cost, Measurement, Target, TensorInfo, Tolerance


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SourceGraph(_Record, frozen=True, kw_only=True):
    """The graph to compress, ``model.onnx`` of its stage, as it was read.

    Attributes:
        origin: where it came from, in words.
        precision: of its weights and Q/DQ, read from the graph ("fp32", "int8", "fp16" ...).
        opset: of the source, before it was raised.
        inputs: declared.
        outputs: declared.
        parameters: values in its initializers.
        operators: nodes by operator.
    """

    origin: str
    precision: str
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    operators: dict[str, int]


class OwnLoadRecord(_Record, frozen=True, kw_only=True):
    """What was brought.

    Attributes:
        graph: the model.
        rows: by what they are for ("calibration", "gate").
        sources: SHA-256 of each file, by name.
        notes: what was found and done, a sentence each.
    """

    graph: SourceGraph
    rows: dict[str, int]
    sources: dict[str, str]
    notes: tuple[str, ...] = ()


class OwnQuantizeRecord(_Record, frozen=True, kw_only=True):
    """The candidate: ``candidate.onnx``; of fp32 there is none, the source itself is it.

    Attributes:
        precision: "fp32" (as it came), "int8" or "int8_dynamic".
        calibration: what ranges were measured on; None where none were.
        products: matrix products whose weights are INT8 now, by node.
        tables: lookup tables that are INT8 now.
        notes: a sentence each.
    """

    precision: str
    calibration: Calibration | None = None
    products: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class OwnCompileRecord(_Record, frozen=True, kw_only=True):
    """Compiled forms; paths are relative to the folders ``candidate`` and ``parent`` of the stage.

    Attributes:
        targets: of the candidate, without costs.
        parent: of the parent, for the gate; None when the candidate is it.
        fused: integer kernels that ONNX Runtime made of the candidate, by operator.
        sizes_bytes: of the graph that ONNX Runtime reads, by name.
        notes: a sentence each.
    """

    targets: tuple[Target, ...]
    parent: Target | None
    fused: dict[str, int]
    sizes_bytes: dict[str, int]
    notes: tuple[str, ...] = ()


class OwnVerifyRecord(_Record, frozen=True, kw_only=True):
    """What the gate measured.

    Attributes:
        evidence: against limits.
        cost: of the candidate.
        speed: parent against candidate; empty when there is one engine only.
        tolerance: of the golden replay.
        quality: the metric, by engine; empty without labels.
        metric: its name; empty without labels.
        hardware: the machine.
        notes: a sentence each.
    """

    evidence: tuple[Measurement, ...]
    cost: Cost
    speed: tuple[SpeedRow, ...]
    tolerance: Tolerance
    quality: dict[str, float]
    metric: str
    hardware: dict[str, str]
    notes: tuple[str, ...] = ()
