"""What a packaged encoder is asked to be; plain values, so that a recipe can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from build_engines.compression.calibrator_names import ProductCalibrator, check_ranges
from build_engines.models.encoder.graph import Pooling
from build_engines.models.encoder.sentence import KINDS

Variant = Literal["fp32", "int8", "fp8"]
VARIANTS: tuple[Variant, ...] = ("fp32", "int8", "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """How one engine is written; None leaves it to the checkpoint's own files.

    Attributes:
        variant: "fp32": the parent. "int8": products symmetric per output channel with static, calibrated activations, and
            the word table a scale a row. "fp8": products in E4M3, a scale a tensor; for TensorRT plans only.
        pooling, normalize, max_tokens: see ``SentenceForm``.
        dim: width of the vector, its first values.
        dims: narrower widths that the encoder was trained for (Matryoshka); empty: none.
        prefixes: by "query", "passage", "plain"; what is not here is the checkpoint's.
        calibrator: of activations, see ``compression.calibrators``; "product" searches for the least error of products.
        percentile: of absolute values that the calibrator "percentile" keeps (50..100).
        smooth: how much of an activation's size goes into the weights (SmoothQuant's alpha, 0..1; 0: none); None: searched
            for by "product", and none for other calibrators.
        kept: products that stay in float32, by name ("layers.3.down"): what mixed precision has chosen.

    Raises:
        ValueError: a value is out of range; names it.
    """

    variant: Variant = "int8"
    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    dim: int | None = None
    dims: tuple[int, ...] = ()
    prefixes: Mapping[str, str] = field(default_factory=dict)
    calibrator: ProductCalibrator = "product"
    percentile: float = 99.99
    smooth: float | None = None
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self.calibrator, self.percentile, self.smooth)
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r}: there are {', '.join(VARIANTS)}")
        for name in ("max_tokens", "dim"):
            value = getattr(self, name)
            if value is not None and value < (3 if name == "max_tokens" else 1):
                raise ValueError(f"{name} {value}: must be at least {3 if name == 'max_tokens' else 1}")
        if min(self.dims, default=1) < 1:
            raise ValueError(f"dims {min(self.dims)}: must be at least 1")
        unknown = sorted(set(self.prefixes) - set(KINDS))
        if unknown:
            raise ValueError(f"prefixes {unknown[0]!r}: there are {', '.join(KINDS)}")
