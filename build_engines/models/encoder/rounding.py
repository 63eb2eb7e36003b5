"""How the input of one product becomes 8 bits; what calibration finds and the graph writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from build_engines.models.causal.rounding import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputRounding:
    """One product's input.

    Attributes:
        scale: of a step (> 0).
        zero: code of 0; signed ones have 0.
        unsigned: codes are 0..255 and not -128..127.
        divisors_K: channels are divided by these first, and the rows of the matrix multiplied; None: by nothing.
    """

    scale: float
    zero: int
    unsigned: bool
    divisors_K: Floats | None = None

    def seen(self, x_MK: Floats) -> Floats:
        """What is left of values, divided already."""
        low, high = (0, 255) if self.unsigned else (-128, 127)
        codes_MK = np.clip(np.rint(x_MK / np.float32(self.scale)) + self.zero, low, high)
        left: Floats = ((codes_MK - self.zero) * np.float32(self.scale)).astype(np.float32)
        return left

    def rows(self, weight_KN: Floats) -> Floats:
        """The matrix that goes with it."""
        return weight_KN if self.divisors_K is None else weight_KN * self.divisors_K[:, None]
