"""What a packaged text engine is asked to be; plain values, so that a recipe can hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Variant = Literal["fp32", "int8", "int4"]
VARIANTS: tuple[Variant, ...] = ("fp32", "int8", "int4")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """How one engine is written.

    Attributes:
        variant: precision of the matrices. "fp32": the parent. "int8": symmetric per output channel, activations static
            and calibrated. "int4": weights only, blocks of 32.
        max_context: tokens of prompt and answer together (>= 2); at most what the checkpoint was trained for.
        max_chunk: prompt tokens a call may hold in one row (1..max_context).
        awq: search for scales that spare the weights which large activations meet ("int4" only; needs calibration).

    Raises:
        ValueError: a value is out of range; names it.
    """

    variant: Variant
    max_context: int = 2048
    max_chunk: int = 256
    awq: bool = False

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r}: there are {', '.join(VARIANTS)}")
        if self.max_context < 2:
            raise ValueError(f"max_context {self.max_context}: must be at least 2")
        if not 1 <= self.max_chunk <= self.max_context:
            raise ValueError(f"max_chunk {self.max_chunk}: must be in 1..{self.max_context} (max_context)")
        if self.awq and self.variant != "int4":
            raise ValueError(f"awq is for int4 weights, the variant is {self.variant}")
