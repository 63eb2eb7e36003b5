"""What a recipe says of intents ([intents]): plain values, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.sample_intents import LANGUAGES, Language
from build_engines.intents.examples import ExampleFormat
from build_engines.intents.linear_parts import LinearConfig
from build_engines.intents.split import SplitShares

IntentMethod = Literal["linear", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTuning:
    """How the encoder is trained together with its head ([intents.finetune]; method "full").

    Attributes:
        epochs: passes over the examples (>= 1).
        batch_size: texts a step (>= 1), of like length.
        learning_rate: peak, of the last block (> 0).
        layer_decay: learning rate of a block over that of the one behind it (0 < decay <= 1).
        head_factor: learning rate of the head over ``learning_rate`` (> 0).
        train_words: also move the word table: half of a small encoder's weights, and slow on a CPU.
        weight_decay: on matrices (>= 0).
        warmup_share: of all steps, until the peak (0..1); then half a cosine to 0.
        clip_norm: of the gradient (> 0).
        label_smoothing: probability that a label gives to all intents alike (0..1).
        average: what a step keeps of the running mean of the weights, which is what is judged and kept (0: no mean).
        patience: judged epochs without a better loss before stopping (>= 1).
        checkpoint_every: steps between checkpoints (>= 1).
        seed: of order and dropout.
        bfloat16: mixed precision; None: where the device has it in hardware.
        device: torch device.

    Raises:
        ValueError: a value is out of range; names it.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1.5e-4
    layer_decay: float = 0.85
    head_factor: float = 5.0
    train_words: bool = False
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    average: float = 0.995
    patience: int = 3
    checkpoint_every: int = 200
    seed: int = 0
    bfloat16: bool | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("epochs", "batch_size", "patience", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more")
        for name in ("learning_rate", "head_factor", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        for name in ("warmup_share", "label_smoothing", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a share from 0 to below 1")
        if not 0 < self.layer_decay <= 1 or not self.weight_decay >= 0:
            raise ValueError("layer_decay must be above 0 and at most 1, weight_decay 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPart:
    """What the threshold must keep, on validation ([intents.threshold]).

    Attributes:
        max_out_answered: share of the texts about nothing that may get an intent.
        max_wrong: share of the texts that get an intent that may get a wrong one.
        min_coverage: share of the texts about an intent that must get one; wins over the other two.
    """

    max_out_answered: float = 0.05
    max_wrong: float = 0.05
    min_coverage: float = 0.8

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ("max_out_answered", "max_wrong", "min_coverage"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a share between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleIntentsPart:
    """The sample shop's own intents, generated ([intents.sample_shop]); judged by its hand-written questions.

    Attributes:
        per_intent: examples of each intent and language (>= 1).
        languages: to learn.
        seed: of the examples.
    """

    per_intent: int = 40
    languages: tuple[Language, ...] = LANGUAGES
    seed: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.per_intent < 1 or not self.languages:
            raise ValueError("per_intent must be 1 or more, and languages must name one")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentsPart:
    """What is learnt, from what, how ([intents]).

    Attributes:
        examples: file of labelled texts (CSV, TSV, JSON lines); or
        sample_shop: see there.
        validation, test: files of their own; None: taken from ``examples``.
        format, rows, split: how files are read and divided.
        method: "linear": a head on the encoder as it is, which leaves its vectors to retrieval; "full": the encoder learns with
            the head, which is more accurate and makes its vectors those of intents.
        linear, finetune, threshold: see there.
        max_tokens: of a text; what is longer is cut.
        suspect_weight: what an example counts that a head learnt from others calls wrong (1: as the rest; 0: it is left out).

    Raises:
        ValueError: there is not one source, or a value is out of range.
    """

    examples: Path | None = None
    sample_shop: SampleIntentsPart | None = None
    validation: Path | None = None
    test: Path | None = None
    format: ExampleFormat = field(default_factory=ExampleFormat)
    rows: BadRowPolicy = field(default_factory=BadRowPolicy)
    split: SplitShares = field(default_factory=SplitShares)
    method: IntentMethod = "linear"
    linear: LinearConfig = field(default_factory=LinearConfig)
    finetune: IntentTuning = field(default_factory=IntentTuning)
    threshold: ThresholdPart = field(default_factory=ThresholdPart)
    max_tokens: int = 64
    suspect_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check that there is one source."""
        if (self.examples is None) == (self.sample_shop is None):
            raise ValueError(
                "give either examples (a file) or sample_shop (a section), not both and not neither"
            )
        if self.sample_shop is not None and (self.validation or self.test):
            raise ValueError(
                "the sample shop has its own questions to be judged by; leave validation and test out"
            )
        if not 0 <= self.suspect_weight <= 1:
            raise ValueError(f"suspect_weight is {self.suspect_weight}; use a number from 0 to 1")
        if self.max_tokens < 3:
            raise ValueError(f"max_tokens is {self.max_tokens}; use 3 or more")
