"""The sections of an encoder's recipe; each is what one stage gets, and part of its cache key.

Ranges stand in ``recipe_limits``. Units: as the names say; shares are 0..1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_engines.compression.calibrator_names import ProductCalibrator
from build_engines.compression.mixed_parts import MixedPart, check_gpus_of_fp8
from build_engines.encoder.small_parts import TrainedSmallPart
from build_engines.models.encoder.graph import Pooling
from build_engines.models.encoder.options import EncoderOptions, Variant
from build_engines.recipe_parts import CompilePart

OnRefused = Literal["stop", "publish_parent"]
Reference = Literal["transformers", "none"]
_REVISION, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCheckpointPart:
    """Where the encoder comes from ([checkpoint]): one of ``package``, ``folder``, ``hub`` and ``trained_small``.

    Attributes:
        package: an installed Python package that holds the checkpoint, and the folder inside it, "some_package/model"; its
            files are read and its code is not run.
        folder: on this machine.
        hub: name on a model hub, "intfloat/multilingual-e5-small".
        revision: of the hub's repository, the whole commit.
        sha256: of ``model.safetensors``; must be there for a package or a hub.
        glossary: words of another language, see ``models.encoder.words``; None: none are added.
        trained_small: trained by the builder on the shop's own texts, from random weights, and said to be.
    """

    package: str | None = None
    folder: Path | None = None
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    glossary: Path | None = None
    trained_small: TrainedSmallPart | None = None

    def __post_init__(self) -> None:
        """Check that there is one source, and that it is pinned."""
        sources = [
            name for name in ("package", "folder", "hub", "trained_small") if getattr(self, name) is not None
        ]
        if len(sources) != 1:
            raise ValueError(
                f"give one of package, folder, hub and trained_small; there is {', '.join(sources) or 'none of them'}"
            )
        if self.trained_small is not None and (self.sha256 is not None or self.glossary is not None):
            raise ValueError("trained_small has its own weights and words; leave sha256 and glossary out")
        if self.folder is None and self.trained_small is None and self.sha256 is None:
            raise ValueError(f"{sources[0]} needs sha256, of its model.safetensors")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; write 64 hex digits in small letters")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision go together: a name alone is another model tomorrow")
        if self.revision is not None and not _REVISION.fullmatch(self.revision):
            raise ValueError(f"revision is {self.revision!r}; write the whole commit, 40 hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPart:
    """From tokens to a vector ([form]); what is left out is the checkpoint's own, see ``EncoderOptions``."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    dim: int | None = None
    dims: tuple[int, ...] | None = None
    prefixes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what they say of each other."""
        self.options("fp32")

    def options(self, variant: Variant) -> EncoderOptions:
        """For the packaged engine."""
        return EncoderOptions(
            variant=variant,
            pooling=self.pooling,
            normalize=self.normalize,
            max_tokens=self.max_tokens,
            dim=self.dim,
            dims=self.dims or (),
            prefixes=self.prefixes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsPart:
    """Texts of the shop that the engine is calibrated and judged on ([texts]).

    Attributes:
        file: a text a line, or JSON lines with ``text``.
        sample_shop: the sample shop's pages and questions instead.
        retrieval: JSON lines of ``question`` and ``passage``: what must be found as well as before; with the sample shop, its
            questions and the sections that answer them.
        gate_share: of the texts, for the gate alone; the rest is for calibration.
        max_calibration_texts, max_gate_texts: no more than these are used.
        seed: of the division.
    """

    file: Path | None = None
    sample_shop: bool = False
    retrieval: Path | None = None
    gate_share: float = 0.5
    max_calibration_texts: int = 256
    max_gate_texts: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there is one source."""
        if (self.file is not None) == self.sample_shop:
            raise ValueError("give either file (texts) or sample_shop = true, not both and not neither")
        if self.sample_shop and self.retrieval is not None:
            raise ValueError("the sample shop has its own questions; leave retrieval out")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageEncoderPart:
    """How engines are written ([package]).

    Attributes:
        variant: "fp32" publishes the parent itself.
        mixed: leave those products in float32 that cost more quality than they bring speed, as measured here
            ([package.mixed]); None: all are in INT8.
        calibrator, percentile, smooth: how ranges of activations are found, see ``EncoderOptions``.
        plan_variant: precision of TensorRT plans where it is not the engine's own: "fp8" for GPUs that have it.
        targets, skip_missing: see ``CompilePart``.
        max_batch, max_batch_tokens: largest batch and longest text of a TensorRT plan.
    """

    variant: Variant = "int8"
    mixed: MixedPart | None = None
    calibrator: ProductCalibrator = "product"
    percentile: float = 99.99
    smooth: float | None = None
    plan_variant: Literal["same", "fp32", "fp8"] = "same"
    targets: tuple[str, ...] = ("onnxruntime",)
    skip_missing: bool = False
    max_batch: int = 32
    max_batch_tokens: int = 256

    def __post_init__(self) -> None:
        """Check the names of targets, and what fields say of each other."""
        self.wanted()
        if self.mixed is not None and self.variant != "int8":
            raise ValueError(
                f'[package.mixed] mixes INT8 with float32; variant is "{self.variant}", use "int8"'
            )
        if self.variant == "fp8":
            raise ValueError(
                'variant is "fp8", and the engine runs on the CPU, which multiplies no FP8; use "int8", and plan_variant = "fp8" '
                "for the plans of GPUs"
            )
        check_gpus_of_fp8(self.plan_variant, self.wanted())

    def wanted(self) -> tuple[tuple[str, str | None], ...]:
        """Each target as (kind, capability)."""
        return CompilePart(targets=self.targets, skip_missing=self.skip_missing).wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderGatePart:
    """What must hold before anything is published ([gate]).

    Attributes:
        min_cosine: mean cosine of the candidate's vectors with the FP32 parent's; the whole interval must be above it.
        max_recall_loss: of the passage that is found first, in share of the questions, to the parent. The
            figure itself: an interval over a few hundred questions is wider than any loss that one would take.
        max_intent_loss_points: of accuracy of the intent head, in percentage points, to the parent.
        batch_sizes: texts at once at which the candidate must be faster than its parent.
        tokens: of each text when it is timed.
        min_speedup: by how much (1: at all).
        max_size_ratio: size of the engine over that of its FP32 parent.
        rounds: of parent and candidate in turn, for each batch size (>= 10).
        reference: what the FP32 engine is held against: "transformers", or "none" (then it must agree with itself, alone and in
            a batch).
        reference_texts: how many of the gate's texts the reference reads.
        max_reference_error: largest difference of a vector's value to the reference's.
        on_refused: "publish_parent" publishes the FP32 parent instead of a refused candidate.
        seed: of resampling.
        max_slice_loss_points: of R@1 and intent accuracy on a slice (a language); refused where the loss is decidedly above it.
        footprint: measure memory, latency and CPU of the engines, each in a process of its own.
        keep_examples: keep what was judged on in the version, for ``compare``.
    """

    min_cosine: float = 0.99
    max_recall_loss: float = 0.03
    max_intent_loss_points: float = 0.5
    batch_sizes: tuple[int, ...] = (8, 32)
    tokens: int = 24
    min_speedup: float = 1.0
    max_size_ratio: float = 1.0
    rounds: int = 20
    reference: Reference = "transformers"
    reference_texts: int = 16
    max_reference_error: float = 1e-4
    on_refused: OnRefused = "stop"
    seed: int = 0
    max_slice_loss_points: float = 5.0
    footprint: bool = True
    keep_examples: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEncoderPart:
    """For ``encoder-load``."""

    checkpoint: EncoderCheckpointPart
    texts: TextsPart
    form: FormPart


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStagePart:
    """For ``encoder-package``."""

    package: PackageEncoderPart
    form: FormPart


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyEncoderPart:
    """For ``encoder-verify``: the limits, and the model's name for messages."""

    gate: EncoderGatePart
    form: FormPart
    model: str
