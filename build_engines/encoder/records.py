"""What each stage of the encoder's line says about its result.

Units: seconds, bytes, tokens.
"""

from __future__ import annotations

import msgspec

from build_engines.compression.step_records import StepRecord
from build_engines.intents.records import IntentsRecord
from build_engines.proof.records import Footprint, SliceRow
from build_engines.records import SpeedRow
from server.artifacts.manifest import Calibration, Cost, Measurement, Target, TensorInfo, Tolerance


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class EncoderLoadRecord(_Record, frozen=True, kw_only=True):
    """What the checkpoint and the texts are.

    Attributes:
        checkpoint: absolute path of the folder; empty: ``checkpoint`` of this stage.
        origin: where it came from, in words.
        family: ``model_type`` of its configuration.
        texts: by what they are for ("calibration", "gate", "questions", "passages").
        sources: SHA-256 of each file, by name.
        flags: what a reader must know ("trained_small").
        notes: what was found and done, a sentence each.
    """

    checkpoint: str
    origin: str
    family: str
    texts: dict[str, int]
    sources: dict[str, str]
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class HeadRecord(_Record, frozen=True, kw_only=True):
    """The intent head, where the recipe asks for one.

    Attributes:
        intents: how its training went; None: no head.
        notes: a sentence each.
    """

    intents: IntentsRecord | None
    notes: tuple[str, ...] = ()


class EncoderPackageRecord(_Record, frozen=True, kw_only=True):
    """One engine, as ``package_encoder`` says."""

    precision: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    limits: dict[str, int]
    kernels: dict[str, int]
    parameters: int
    size_bytes: int


class PackagesRecord(_Record, frozen=True, kw_only=True):
    """The engine that is to serve, and its FP32 parent where it is another.

    Attributes:
        candidate: in folder ``candidate``.
        parent: in folder ``parent``; None when the candidate is it.
        plans: TensorRT plans, their files in ``candidate``.
        calibration: what roundings were measured on; None where none were.
        mixed: how each product's precision was chosen; None: all have the same.
        notes: a sentence each.
    """

    candidate: EncoderPackageRecord
    parent: EncoderPackageRecord | None
    plans: tuple[Target, ...]
    calibration: Calibration | None
    mixed: StepRecord | None = None
    notes: tuple[str, ...] = ()


class EncoderVerifyRecord(_Record, frozen=True, kw_only=True):
    """What the gate measured.

    Attributes:
        evidence: against limits.
        cost: of a batch of n texts of ``cost_tokens`` tokens.
        cost_tokens: of each.
        speed: parent against candidate; empty when there is one engine only.
        tolerance: of the golden replay.
        cosine: mean, 1st percentile and least, to the parent; 1 when there is none.
        recall: of the passage found first, by engine; empty without labelled questions.
        accuracy: of the intents, by engine; empty without a head.
        hardware: the machine.
        notes: a sentence each.
        slices: candidate against parent on each slice; empty when there is one engine only.
        footprint: of "candidate" and "parent", each in a process of its own.
    """

    evidence: tuple[Measurement, ...]
    cost: Cost
    cost_tokens: int
    speed: tuple[SpeedRow, ...]
    tolerance: Tolerance
    cosine: tuple[float, float, float]
    recall: dict[str, float]
    accuracy: dict[str, float]
    hardware: dict[str, str]
    notes: tuple[str, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    footprint: dict[str, Footprint] = {}
