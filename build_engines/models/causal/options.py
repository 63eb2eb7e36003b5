"""What a packaged text engine is asked to be; plain values, so that a recipe can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.compression.calibrator_names import ProductCalibrator, check_ranges

Precision = Literal["fp32", "int8", "int4"]
Variant = Literal["fp32", "int8", "int4", "int8+int4"]
# A version has one graph, or two over one KV cache: the first computes prompts and full batches, the light one few rows.
GRAPHS: dict[Variant, tuple[Precision, ...]] = {
    "fp32": ("fp32",), "int8": ("int8",), "int4": ("int4",), "int8+int4": ("int8", "int4")
}  # fmt: skip
VARIANTS = tuple(GRAPHS)
BLOCKS = (32, 64, 128)  # rows of an INT4 matrix that share a scale

Rounding = Literal["nearest", "gptq"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """How one engine is written.

    Attributes:
        variant: precision of the matrices. "fp32": the parent. "int8": symmetric per output channel, activations static
            and calibrated. "int4": weights only, in blocks. "int8+int4": both graphs, over one KV cache.
        max_context: tokens of prompt and answer together (>= 2); at most what the checkpoint was trained for.
        max_chunk: prompt tokens a call may hold in one row (1..max_context).
        awq: search for scales that spare the weights which large activations meet (INT4 weights; needs calibration).
        block: rows of an INT4 matrix that share a scale, one of ``BLOCKS``: more is smaller, faster and coarser.
        rounding: of INT4 weights, to the "nearest" code, or "gptq": so that later rows make up for earlier ones (needs
            calibration).
        calibrator: of INT8 activations, see ``compression.calibrators``; "product" searches for the least error of products.
        percentile: of absolute values that the calibrator "percentile" keeps (50..100).
        smooth: how much of an activation's size goes into the weights (SmoothQuant's alpha, 0..1; 0: none); None: searched
            for by "product", and none for other calibrators.
        precisions: of matrices that have another one than the variant's, by name ("layers.3.down"): what mixed precision has
            chosen.

    Raises:
        ValueError: a value is out of range; names it.
    """

    variant: Variant
    max_context: int = 2048
    max_chunk: int = 256
    awq: bool = False
    block: int = 32
    rounding: Rounding = "nearest"
    calibrator: ProductCalibrator = "product"
    percentile: float = 99.99
    smooth: float | None = None
    precisions: Mapping[str, Precision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r}: there are {', '.join(VARIANTS)}")
        if self.max_context < 2:
            raise ValueError(f"max_context {self.max_context}: must be at least 2")
        if not 1 <= self.max_chunk <= self.max_context:
            raise ValueError(f"max_chunk {self.max_chunk}: must be in 1..{self.max_context} (max_context)")
        if self.awq and "int4" not in GRAPHS[self.variant]:
            raise ValueError(f"awq is for int4 weights, the variant is {self.variant}")
        if self.rounding == "gptq" and "int4" not in GRAPHS[self.variant]:
            raise ValueError(f"gptq rounds int4 weights, the variant is {self.variant}")
        check_ranges(self.calibrator, self.percentile, self.smooth)
        if self.block not in BLOCKS:
            raise ValueError(f"block {self.block}: there are {', '.join(map(str, BLOCKS))}")
