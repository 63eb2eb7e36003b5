"""A linear whose weight lies in 4 bits: the frozen base that LoRA learns beside (QLoRA).

A block of 64 neighbouring weights of an output shares a scale, its largest absolute value; codes are levels between -1 and 1:
NF4 (quantiles of a normal distribution, 0 among them) or INT4 (even steps). 4.5 bits a weight in all. The weight is unpacked
for each product and again for its gradient, and never kept.

Source:
    Dettmers et al., "QLoRA", 2023, section 3 (NF4, appendix E for its levels); scales are not quantized a second time.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Base = Literal["nf4", "int4"]
BLOCK = 64
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
LEVELS: dict[str, tuple[float, ...]] = {"nf4": _NF4, "int4": tuple(code / 7 for code in range(-8, 8))}
_TINY = 1e-12  # scale of a block of zeros: any positive number


def packed(weight_NK: Tensor, base: Base) -> tuple[Tensor, Tensor]:
    """Two codes a byte (the first in the low half) in memory order, and the scale of each block, float32.

    Args:
        weight_NK: any float; a row that is no whole number of blocks has a shorter last one.
        base: which levels.
    """
    blocks = _blocks(weight_NK.float())
    scales = blocks.abs().amax(2).clamp_min(_TINY)
    levels = torch.tensor(LEVELS[base], device=weight_NK.device)
    borders = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / scales[..., None], borders).to(torch.uint8).reshape(-1)
    return codes[0::2] | (codes[1::2] << 4), scales


def unpacked(codes: Tensor, scales_NG: Tensor, inputs: int, base: Base) -> Tensor:
    """``weight_NK`` of ``packed``, float32."""
    levels = torch.tensor(LEVELS[base], device=codes.device)
    both = torch.stack([codes & 0xF, codes >> 4], dim=1).reshape(*scales_NG.shape, BLOCK)
    weight = levels[both.long()] * scales_NG[..., None]
    return weight.reshape(len(scales_NG), -1)[:, :inputs]


class QuantizedLinear(nn.Linear):
    """See the module docstring; its ``weight`` can be read, is made anew each time, and does not learn.

    Args:
        source: whose weight is taken; its bias is kept as it is.
        base: which levels.
    """

    codes: Tensor
    scales_NG: Tensor

    def __init__(self, source: nn.Linear, base: Base) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.base = source.in_features, source.out_features, base
        codes, scales = packed(source.weight.detach(), base)
        self.register_buffer("codes", codes)
        self.register_buffer("scales_NG", scales)
        self.bias = None if source.bias is None else nn.Parameter(source.bias.detach().clone(), False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """``[N, K]``, float32."""
        return unpacked(self.codes, self.scales_NG, self.in_features, self.base)

    def forward(self, input: Tensor) -> Tensor:
        """As a linear's."""
        found: Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return found if self.bias is None else found + self.bias.to(found.dtype)

    def plain(self) -> nn.Linear:
        """A linear with the weight that this one computes with."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear


class _Product(torch.autograd.Function):
    # The unpacked weight is not kept for the backward pass: that is what the memory is saved by.
    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        dtype = (
            torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        )
        ctx.kept, ctx.dtype = x.dtype, dtype
        return functional.linear(x.to(dtype), linear.weight.to(dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad.to(ctx.dtype) @ ctx.linear.weight.to(ctx.dtype)).to(ctx.kept), None


def quantize_base(model: nn.Module, base: Base) -> tuple[int, int]:
    """Put the linears of a causal model's blocks into 4 bits, in place; tables, head and norms stay.

    Returns:
        Bytes of their weights before (as float32) and after.
    """
    before = after = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and name != "lm_head":
                made = QuantizedLinear(child, base)
                before += 4 * child.weight.numel()
                after += made.codes.numel() + 4 * made.scales_NG.numel()
                setattr(parent, name, made)
    return before, after


def plain_base(model: nn.Module) -> None:
    """Undo ``quantize_base``: plain linears that hold what the 4 bits stood for."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, QuantizedLinear):
                setattr(parent, name, child.plain())


def _blocks(weight_NK: Tensor) -> Tensor:
    missing = -weight_NK.shape[1] % BLOCK
    padded = functional.pad(weight_NK, (0, missing)) if missing else weight_NK
    return padded.reshape(len(weight_NK), -1, BLOCK)
