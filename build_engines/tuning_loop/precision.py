"""Mixed precision: which there is on a device, and the scale that keeps float16 gradients from vanishing.

The scale follows the gradients: it is halved when one overflows (that step is not taken) and doubled after a while without.
It is part of a checkpoint, and the same in all processes of a crew, since all see the same norm.

Source:
    Micikevicius et al., "Mixed Precision Training", 2018, section 3.2.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from build_engines.models.bfloat16 import fast_bfloat16

Precision = Literal["float32", "bfloat16", "float16"]
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
FIRST_SCALE, LEAST_SCALE, MOST_SCALE = 2.0**16, 2.0**-14, 2.0**24
GROWS_AFTER = 500  # steps without an overflow


def has_bfloat16(device: str) -> bool:
    """Whether matrices are multiplied in bfloat16 faster than in float32 there."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return fast_bfloat16()


def check_precision(precision: Precision, device: str) -> None:
    """Refuse what the device cannot do.

    Raises:
        ValueError: says what to use instead.
    """
    if precision == "float32":
        return
    kind = torch.device(device).type
    if precision == "bfloat16" and kind == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise ValueError(
            f'precision is "bfloat16", {device} has none in hardware; use "float16" or "float32"'
        )
    if kind not in ("cpu", "cuda"):
        raise ValueError(
            f'precision is "{precision}", known for CPUs and CUDA only; use "float32" on {device}'
        )


def precision_note(precision: Precision, device: str) -> str | None:
    """What is allowed there and does not pay, as a sentence; None: nothing to say."""
    if precision == "float32" or torch.device(device).type != "cpu":
        return None
    if precision == "float16":
        return "precision float16 is worked out in float32 on most CPUs: no faster here, its rounding is the same"
    if not fast_bfloat16():
        return "this CPU has no bfloat16 in hardware: slower than float32 here, its rounding is the same"
    return None


def products_in(precision: Precision, device: str) -> contextlib.AbstractContextManager[object]:
    """Within it, products are in that precision; float32 leaves everything as it is."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=_DTYPES[precision])


class LossScale:
    """By how much a loss is multiplied before its gradient is taken; 1 and still but for float16."""

    def __init__(self, precision: Precision) -> None:
        self.moves = precision == "float16"
        self.value = FIRST_SCALE if self.moves else 1.0
        self.calm, self.skipped = 0, 0

    @torch.no_grad()
    def undo(self, parameters: Iterable[Tensor]) -> None:
        """Take the scale out of the gradients again."""
        if self.value != 1.0:
            for one in parameters:
                if one.grad is not None:
                    one.grad.mul_(1.0 / self.value)

    def takes(self, norm: float) -> bool:
        """Whether a step with a gradient of this norm is to be taken; moves the scale.

        Raises:
            OverflowError: gradients overflow at the least scale too.
        """
        if not self.moves or math.isfinite(norm):
            self.calm += 1
            if self.moves and self.calm >= GROWS_AFTER and self.value < MOST_SCALE:
                self.value, self.calm = self.value * 2, 0
            return True
        self.value, self.calm, self.skipped = self.value / 2, 0, self.skipped + 1
        if self.value < LEAST_SCALE:
            raise OverflowError("gradients overflow at any scale")
        return False

    def facts(self) -> list[float]:
        """For a checkpoint."""
        return [self.value, self.calm, self.skipped]

    def restore(self, facts: list[float]) -> None:
        """As it was."""
        self.value, self.calm, self.skipped = float(facts[0]), int(facts[1]), int(facts[2])
