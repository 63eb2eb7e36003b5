"""The sections of a text recipe; each is what one stage gets, and part of its cache key.

Ranges stand in ``recipe_limits``. Units: as the names say; shares are 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_engines.compression.calibrator_names import ProductCalibrator
from build_engines.compression.mixed_parts import MixedPart
from build_engines.data.bad_rows import BadRowPolicy
from build_engines.models.causal.options import BLOCKS, GRAPHS, Rounding, Variant
from build_engines.recipe_parts import CompilePart, ModelPart

Reference = Literal["transformers", "none"]
OnRefused = Literal["stop", "publish_parent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModelPart(ModelPart):
    """What the model is called ([model]).

    Attributes:
        demonstration: it is one, and says so wherever it is listed.
    """

    demonstration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPart:
    """What is served, or fine-tuned ([checkpoint]).

    Attributes:
        folder: in Hugging Face form: config.json, safetensors, tokenizer.json.
    """

    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCopyPart:
    """Generated copy of the sample shop ([data.sample_copy]).

    Attributes:
        shop_seed, num_products: of the shop.
        seed: of the copy.
        rounds: pieces of copy a product and language.
        renamed_share: of them, told under other names and numbers.
        every: use one product in so many, and nothing of the others: those that the demonstration model never learnt from.
    """

    shop_seed: int = 7
    num_products: int = 3000
    seed: int = 2
    rounds: int = 2
    renamed_share: float = 0.75
    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataPart:
    """The shop's own copy, or the sample shop's ([data]).

    Attributes:
        pairs: JSON lines: a record and its copy, a conversation, or a prompt and its answer.
        sample_copy: generate this instead.
        max_tokens: a longer pair is left out, and counted.
        rows: what happens to lines that cannot be used ([data.rows]).
    """

    pairs: Path | None = None
    sample_copy: SampleCopyPart | None = None
    max_tokens: int = 1024
    rows: BadRowPolicy = field(default_factory=BadRowPolicy)

    def __post_init__(self) -> None:
        """Check that there is one source."""
        if (self.pairs is None) == (self.sample_copy is None):
            raise ValueError(
                "give either pairs (a file) or sample_copy (a section), not both and not neither"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSplitPart:
    """Who is judged on what ([split]); by product, so that no product is on two sides.

    Attributes:
        gate_share: of products, for the gate alone.
        calibration_share: for scales alone.
        validation_share: to choose the best weights by; the rest is learnt from.
        max_gate_pairs, max_calibration_pairs: no more than these are used.
        seed: of the division.
    """

    gate_share: float = 0.1
    calibration_share: float = 0.05
    validation_share: float = 0.05
    max_gate_pairs: int = 200
    max_calibration_pairs: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the sum."""
        shares = ("gate_share", "calibration_share", "validation_share")
        if sum(getattr(self, name) for name in shares) > 1:
            raise ValueError("gate_share, calibration_share and validation_share are more than 1 together")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePart:
    """How the engine is written ([package]): see ``TextOptions``.

    Attributes:
        mixed: give each product the cheapest precision that keeps the quality, as measured here ([package.mixed]); None: all
            have that of the variant.
        plan_batch: texts at once that a TensorRT plan takes at most ([compile] says for which GPUs there are any).
    """

    variant: Variant = "int4"
    max_context: int = 2048
    max_chunk: int = 256
    awq: bool = False
    block: int = 32
    rounding: Rounding = "nearest"
    calibrator: ProductCalibrator = "product"
    percentile: float = 99.99
    smooth: float | None = None
    mixed: MixedPart | None = None
    plan_batch: int = 8

    def __post_init__(self) -> None:
        """Check what they say of each other."""
        if self.block not in BLOCKS:
            raise ValueError(f"block is {self.block}, there are {', '.join(map(str, BLOCKS))}")
        if self.max_chunk > self.max_context:
            raise ValueError(
                f"max_chunk is {self.max_chunk}, max_context is {self.max_context}; use no more than that"
            )
        if self.awq and "int4" not in GRAPHS[self.variant]:
            raise ValueError(f'awq is true and variant is "{self.variant}"; awq is for "int4" only')
        if self.rounding == "gptq" and "int4" not in GRAPHS[self.variant]:
            raise ValueError(f'rounding is "gptq" and variant is "{self.variant}"; gptq is for "int4" only')
        if self.mixed is not None and len(GRAPHS[self.variant]) > 1:
            raise ValueError(
                f'[package.mixed] is for one graph; variant is "{self.variant}", use "int8" or "int4"'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGatePart:
    """What must hold before anything is published ([gate]).

    Attributes:
        max_perplexity_rise: relative to the FP32 parent, over all gate pairs; the whole interval must be below it.
        batch_sizes: texts at once at which a decode step must be faster than the parent's.
        filled: tokens that the texts hold already when a step is timed.
        min_speedup: by how much (1: at all).
        max_size_ratio: size of the engine over that of its FP32 parent.
        rounds: of parent and candidate in turn, for each batch size (>= 10).
        reference: what the FP32 engine is held against: "transformers", or "none" (a checkpoint that does not fit into
            memory a second time; then the parent must agree with itself, alone and in a batch).
        reference_pairs: how many of the gate's pairs the reference reads.
        max_logprob_error: largest difference of a token's log-probability to the reference's, in nats.
        samples: texts to write into the report (0: none).
        on_refused: "publish_parent" publishes the FP32 parent instead of a refused candidate.
        seed: of resampling.
        max_slice_rise: of perplexity on a slice (a language); refused where the rise is decidedly above it.
        footprint: measure memory, latency and CPU of the engines, each in a process of its own.
        keep_examples: keep what was judged on in the version, for ``compare``.
    """

    max_perplexity_rise: float = 0.05
    batch_sizes: tuple[int, ...] = (1, 8)
    filled: int = 192
    min_speedup: float = 1.0
    max_size_ratio: float = 1.0
    rounds: int = 30
    reference: Reference = "transformers"
    reference_pairs: int = 8
    max_logprob_error: float = 0.02
    samples: int = 4
    on_refused: OnRefused = "stop"
    seed: int = 0
    max_slice_rise: float = 0.2
    footprint: bool = True
    keep_examples: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTextPart:
    """For ``package``."""

    package: PackagePart
    compile: CompilePart = field(default_factory=CompilePart)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTextPart:
    """For ``load``."""

    checkpoint: CheckpointPart
    data: TextDataPart
    split: TextSplitPart = field(default_factory=TextSplitPart)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTextPart:
    """For ``verify``: the limits, and the model's name for messages and manifest."""

    gate: TextGatePart
    model: str
