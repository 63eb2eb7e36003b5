"""How the loop runs, and what it says of its way; plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from build_engines.tuning_loop.precision import Precision

Schedule = Literal["linear", "cosine"]
FACTOR = "factor"  # key of an optimizer's group: its learning rate over the loop's


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """How the loop runs; ranges are checked where a recipe is read.

    Attributes:
        epochs: passes over the examples.
        learning_rate: peak.
        warmup_share: of all steps, until the peak.
        schedule: from the peak to 0.
        clip_norm: of the gradient.
        evaluate_every: steps between held-out losses (0: once an epoch).
        checkpoint_every: steps between checkpoints.
        patience: held-out losses without a better one before stopping.
        average: what a step keeps of the running mean of the weights, which is then judged and kept (0: the weights
            themselves); the mean is shorter at the beginning.
        accumulate: batches of the plan whose gradients make one step (>= 1); the step is that of one batch of them all.
        precision: of the products; weights, optimizer and mean stay float32. "float16" scales the loss.
        checkpoint_activations: compute activations again in the backward pass: less memory, about a third more time.
        seed: of each step's randomness.
        device: torch device.
    """

    epochs: int
    learning_rate: float
    warmup_share: float
    schedule: Schedule
    clip_norm: float
    evaluate_every: int
    checkpoint_every: int
    patience: int
    average: float = 0.0
    accumulate: int = 1
    precision: Precision = "float32"
    checkpoint_activations: bool = False
    seed: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """What is known after some steps: loss since the last point, held-out loss, seconds of training so far."""

    step: int
    epoch: float
    loss: float
    heldout_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """How it went; the parameters given to ``run_loop`` hold the weights of the best point.

    Attributes:
        skipped: steps that were not taken because a float16 gradient overflowed and the scale had to fall.
    """

    curve: tuple[LossPoint, ...]
    best: LossPoint
    steps: int
    tokens: int
    skipped: int = 0
