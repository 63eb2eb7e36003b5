"""Which weights go: the lowest scores of all, of a matrix, of a row, or two in every four (2:4).

A mask is True where a weight goes, and exactly as many go as asked for: ties fall to the first. What had the score ``GONE``
(it is zero already) goes first, so masks of rising sparsity are nested.

2:4: in every four neighbours along the input of a linear at least two are zero, which is what sparse tensor cores multiply
twice as fast; it says nothing of a CPU. Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021.

Shapes: a linear's matrix is ``[out, in]``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GONE = -1.0
GROUP, ZEROS_IN_GROUP = 4, 2


def lowest(score: Tensor, count: int) -> Tensor:
    """True at the ``count`` lowest scores of a tensor of any shape."""
    flat = score.reshape(-1)
    mask = torch.zeros(flat.shape, dtype=torch.bool, device=flat.device)
    if count > 0:
        limit = torch.kthvalue(flat, count).values
        mask = flat < limit
        ties = torch.nonzero(flat == limit).squeeze(1)
        mask[ties[: count - int(mask.sum())]] = True
    return mask.reshape(score.shape)


def lowest_of_each_row(score_OI: Tensor, sparsity: float) -> Tensor:
    """True at the lowest scores of each row, ``round(sparsity * in)`` of them."""
    count = round(sparsity * score_OI.shape[1])
    order = score_OI.argsort(dim=1, stable=True)
    mask = torch.zeros(score_OI.shape, dtype=torch.bool, device=score_OI.device)
    return mask.scatter_(1, order[:, :count], True)


def lowest_of_all(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """True at the lowest scores of all matrices together."""
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    mask = lowest(flat, round(sparsity * len(flat)))
    parts = torch.split(mask, [score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def two_of_four(score_OI: Tensor) -> Tensor:
    """True at the two lowest scores of every four neighbours along the input.

    Raises:
        ValueError: the input is no multiple of 4 wide.
    """
    rows, width = score_OI.shape
    if width % GROUP:
        raise ValueError(f"is {width} wide, 2:4 needs a multiple of {GROUP}")
    return lowest_of_each_row(score_OI.reshape(-1, GROUP), ZEROS_IN_GROUP / GROUP).reshape(rows, width)


def is_two_of_four(weight_OI: Tensor) -> bool:
    """Whether every four neighbours along the input hold two zeros or more."""
    if weight_OI.ndim != 2 or weight_OI.shape[1] % GROUP:
        return False
    return bool(((weight_OI.reshape(-1, GROUP) == 0).sum(1) >= ZEROS_IN_GROUP).all())
