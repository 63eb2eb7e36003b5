"""What each stage of the text line says about its result.

Units: seconds, bytes, tokens; losses are nats a token.
"""

from __future__ import annotations

import msgspec

from build_engines.compression.step_records import StepRecord
from build_engines.proof.records import Footprint, SliceRow
from build_engines.records import SpeedRow
from server.artifacts.manifest import Calibration, Cost, Measurement, Target, TensorInfo, Tolerance


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class TextLoadRecord(_Record, frozen=True, kw_only=True):
    """What the data is.

    Attributes:
        checkpoint: absolute path of the folder.
        family: ``model_type`` of its configuration.
        parameters: of the checkpoint.
        eos_ids: tokens that end a text.
        vocab_size: of the configuration.
        pairs: by side of the split ("train", "validation", "calibration", "gate").
        sources: SHA-256 of each file, by name.
        notes: what was found and done, a sentence each.
    """

    checkpoint: str
    family: str
    parameters: int
    eos_ids: tuple[int, ...]
    vocab_size: int
    pairs: dict[str, int]
    sources: dict[str, str]
    notes: tuple[str, ...] = ()


class LossRow(_Record, frozen=True, kw_only=True):
    """One point of the curve."""

    step: int
    epoch: float
    loss: float
    heldout_loss: float
    learning_rate: float
    seconds: float


class FinetuneRecord(_Record, frozen=True, kw_only=True):
    """How fine-tuning went; without one, the checkpoint as it was.

    Attributes:
        checkpoint: absolute path of the folder to package; empty: ``checkpoint`` of this stage.
        method: "none", "full", "lora" or "qlora".
        before: held-out loss before; None without fine-tuning.
        best: held-out loss of the weights that were kept.
        curve: loss and held-out loss.
        trained_parameters: how many weights moved.
        seeds: by what they seeded.
        notes: a sentence each.
    """

    checkpoint: str
    method: str
    before: float | None = None
    best: float | None = None
    curve: tuple[LossRow, ...] = ()
    trained_parameters: int = 0
    seeds: dict[str, int] = {}
    notes: tuple[str, ...] = ()


class PackagedRecord(_Record, frozen=True, kw_only=True):
    """One engine, as ``package_text`` says.

    Attributes:
        precision: of its own graph.
        light: of the light one; None: it has none.
        plans: compiled for GPUs, in the same folder; built and never run.
    """

    precision: str
    light: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    limits: dict[str, int]
    kernels: dict[str, int]
    eos_ids: tuple[int, ...]
    size_bytes: int
    plans: tuple[Target, ...] = ()


class PackageRecord(_Record, frozen=True, kw_only=True):
    """The engine that is to serve, and its FP32 parent where it is another.

    Attributes:
        candidate: in folder ``candidate``.
        parent: in folder ``parent``; None when the candidate is it.
        calibration: what scales were measured on; None where none were.
        mixed: how each matrix' precision was chosen; None: all have the same.
        notes: a sentence each.
    """

    candidate: PackagedRecord
    parent: PackagedRecord | None
    calibration: Calibration | None
    mixed: StepRecord | None = None
    notes: tuple[str, ...] = ()


class Sample(_Record, frozen=True, kw_only=True):
    """A prompt that the gate asked, and what the candidate wrote, greedily."""

    prompt: str
    text: str


class TextVerifyRecord(_Record, frozen=True, kw_only=True):
    """What the gate measured.

    Attributes:
        evidence: against limits.
        cost: of a decode step, in the light graph where there is one.
        speed: parent against candidate; empty when there is one model only.
        tolerance: of the golden replay.
        perplexity: by model, on the gate's pairs.
        sizes_bytes: by model.
        samples: what it writes.
        hardware: the machine.
        notes: a sentence each.
        slices: candidate against parent on each slice; empty when there is one engine only.
        footprint: of "candidate" and "parent", each in a process of its own.
    """

    evidence: tuple[Measurement, ...]
    cost: Cost
    speed: tuple[SpeedRow, ...]
    tolerance: Tolerance
    perplexity: dict[str, float]
    sizes_bytes: dict[str, int]
    samples: tuple[Sample, ...]
    hardware: dict[str, str]
    notes: tuple[str, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    footprint: dict[str, Footprint] = {}
