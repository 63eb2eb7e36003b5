"""Cross-entropy against a whole catalogue in bounded memory: scores of all positions and items never exist at once.

Shape suffixes: P positions of a batch, N items with the padding row 0, D width, F future items of a position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 1024  # positions scored at once: 1024 x 12,000 items are 50 MB in float32


class _CatalogueCrossEntropy(torch.autograd.Function):
    # Gradients are made in the forward pass, a chunk of positions at a time: [P, N] never exists as a whole.
    @staticmethod
    def forward(
        ctx: Any, x_PD: Tensor, table_ND: Tensor, targets_PF: Tensor, weights_PF: Tensor, dtype: torch.dtype
    ) -> Tensor:
        positions = len(x_PD)
        table = table_ND.to(dtype)
        grad_x, grad_table = torch.empty_like(x_PD), torch.zeros_like(table_ND)
        loss = x_PD.new_zeros(())
        for lo in range(0, positions, CHUNK):
            part, target, weight = (tensor[lo : lo + CHUNK] for tensor in (x_PD, targets_PF, weights_PF))
            part = part.to(dtype)
            logits = part @ table.T
            logits[:, 0] = -torch.inf
            share = torch.softmax(logits, dim=1)
            chosen = share.gather(1, target).float().clamp_min(1e-30)  # a NaN stays one
            loss = loss - (weight * chosen.log()).sum()
            share.scatter_add_(1, target, -weight.to(dtype))
            grad_x[lo : lo + CHUNK] = (share @ table).float() / positions
            grad_table += (share.T @ part).float() / positions
        ctx.save_for_backward(grad_x, grad_table)
        return loss / positions

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_x, grad_table = ctx.saved_tensors
        return grad_x * grad, grad_table * grad, None, None, None


def catalogue_loss(
    x_PD: Tensor, table_ND: Tensor, targets_PF: Tensor, weights_PF: Tensor, dtype: torch.dtype
) -> Tensor:
    """Mean cross-entropy of positions against the whole catalogue; arguments as of ``future_targets``.

    Args:
        x_PD: unit queries.
        table_ND: ``SasRec.output_table_ND``.
        targets_PF: item rows, 0 for none.
        weights_PF: of the targets; a position's sum to 1.
        dtype: of the products with the catalogue.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(  # type: ignore[no-untyped-call]
        x_PD, table_ND, targets_PF, weights_PF, dtype
    )
    return loss
