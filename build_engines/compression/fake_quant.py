"""Rounding that gradients pass straight through: weights by row or by block, inputs by one learnt step size.

Weights are rounded exactly as the graph quantizers of the families do it (``models.causal.rounding``, ``sasrec_graph``): INT8
with one scale for each output of a product, INT4 with one for each block of inputs and the divisor of the least error. What is
written back at the end (``rounded``) is rounded by them again to the same codes.

Suffixes: N outputs, K inputs, G blocks of inputs, b inputs of a block.

Source:
    Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013 (straight-through); Esser et al.,
    "Learned Step Size Quantization", 2020 (inputs).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from build_engines.models.causal.rounding import DIVISORS, INT4_HIGH, INT4_LOW, INT8_HIGH, TINY


class Int8Rows(nn.Module):
    """``weight_NK`` with one scale a row."""

    def forward(self, weight_NK: Tensor) -> Tensor:
        """The rounded values, with the gradient of the values themselves."""
        return weight_NK + (int8_rounded(weight_NK.detach()) - weight_NK.detach())


class Int4Blocks(nn.Module):
    """``weight_NK`` with one scale a block of a row.

    Args:
        block: inputs of a block; a row that is no whole number of blocks has a shorter last one.
    """

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, weight_NK: Tensor) -> Tensor:
        """The rounded values, with the gradient of the values themselves."""
        return weight_NK + (int4_rounded(weight_NK.detach(), self.block) - weight_NK.detach())


class InputStep(nn.Module):
    """One product's input on 256 codes, the size of a step learnt.

    Args:
        low: least value seen.
        high: largest.
        signed: codes lie around 0 with a zero point of 0; else the zero point is where 0 falls.
    """

    def __init__(self, low: float, high: float, *, signed: bool) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, 0.0)
        if signed:
            step, self.least, self.most = max(-low, high, float(TINY)) / INT8_HIGH, -INT8_HIGH, INT8_HIGH
        else:
            step = max(high - low, float(TINY)) / 255
            zero = round(-low / step)
            self.least, self.most = -zero, 255 - zero
        self.step = nn.Parameter(torch.tensor([step]))

    def forward(self, x: Tensor) -> Tensor:
        """Rounded and cut off; values inside pass their gradient, the step gets its own."""
        share = 1.0 / math.sqrt(max(1, x.numel()) * max(self.most, -self.least))
        step = self.step.abs().clamp_min(float(TINY))
        step = (step * share) + (step - step * share).detach()  # the value as it is, a gradient of LSQ's size
        codes = (x / step).clamp(self.least, self.most)
        codes = codes + (codes.round() - codes).detach()
        rounded: Tensor = codes * step
        return rounded


class RoundsInput:
    """A forward hook of a linear; a class, since it is sent to other processes."""

    def __init__(self, step: InputStep) -> None:
        self.step = step

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """In front of the product."""
        return (self.step(inputs[0]), *inputs[1:])


def int8_rounded(weight_NK: Tensor) -> Tensor:
    """Values that INT8 with one scale a row can hold."""
    scale_N1 = (weight_NK.abs().amax(1, keepdim=True) / INT8_HIGH).clamp_min(float(TINY))
    return (weight_NK / scale_N1).round().clamp(-INT8_HIGH, INT8_HIGH) * scale_N1


def int4_rounded(weight_NK: Tensor, block: int) -> Tensor:
    """Values that INT4 with one scale a block can hold, by the divisor of the least error, block by block."""
    outputs, inputs = weight_NK.shape
    missing = -inputs % block
    padded = nn.functional.pad(weight_NK, (0, missing)) if missing else weight_NK
    blocks_NGb = padded.reshape(outputs, -1, block)
    largest_NG1 = blocks_NGb.abs().amax(2, keepdim=True).clamp_min(float(TINY) * 9)
    best, least = blocks_NGb, torch.full_like(largest_NG1, torch.inf)
    for divisor in DIVISORS:
        scale = largest_NG1 * (1.0 / divisor)
        rounded = (blocks_NGb / scale).round().clamp(INT4_LOW, INT4_HIGH) * scale
        error = (rounded - blocks_NGb).square().sum(2, keepdim=True)
        better = error < least
        best, least = torch.where(better, rounded, best), torch.where(better, error, least)
    return best.reshape(outputs, -1)[:, :inputs]


def round_weight(module: nn.Module, rounding: nn.Module) -> None:
    """From now on the module sees its weight rounded; the weight itself is what is trained."""
    parametrize.register_parametrization(module, "weight", rounding)


def rounded(module: nn.Module) -> None:
    """Undo ``round_weight``: the weight is what the module saw."""
    parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
