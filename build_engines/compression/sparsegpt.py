"""Wanda and SparseGPT: which weights of a linear its own inputs can do without, and how the others make up for them.

With the inputs X of a linear on calibration examples and its Gram matrix ``G = X^T X`` (``[in, in]``), both look for W' with
zeros that changes what the linear computes least: ``|X W^T - X W'^T|^2 = tr((W - W') G (W - W')^T)``.

- Wanda scores a weight by ``|W_ij| * |X_j|``, compares inside each output row, and changes no other weight.
- SparseGPT goes over the columns in blocks, scores by ``W_ij^2 / [H^-1]_jj^2`` (H the damped Gram matrix of the columns that are
  left), and lets the columns that are left make up for each weight that goes (optimal brain surgeon).

SparseGPT is greedy, so it can lose to Wanda on its own objective; then Wanda's zeros are taken, and (in linears that are not too
wide for it) the weights that stay are solved for. What is returned is never worse than Wanda.

Sources: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (Wanda), 2023; Frantar and Alistarh,
"SparseGPT", 2023, algorithm 1.

Shapes: O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from build_engines.compression.semi_structured import (
    GONE,
    GROUP,
    lowest,
    lowest_of_each_row,
    two_of_four,
)

BLOCK = 128  # columns that are chosen from together
DAMPING = 0.01  # of the mean of H's diagonal
WIDEST_SOLVED = 1024  # inputs; solving each output row of wider linears takes hours


def gram_II(inputs: Iterable[Tensor]) -> Tensor:
    """``X^T X`` of inputs that come in pieces ``[positions, in]``, in double precision."""
    total: Tensor | None = None
    for x in inputs:
        piece = x.double()
        added = piece.T @ piece
        total = added if total is None else total + added
    if total is None:
        raise ValueError("no inputs to calibrate with")
    return total


def wanda_score(weight_OI: Tensor, gram: Tensor) -> Tensor:
    """``|W_ij| * |X_j|``; ``GONE`` where a weight is zero already."""
    score = weight_OI.abs().double() * gram.diagonal().clamp_min(0).sqrt()
    return score.masked_fill(weight_OI == 0, GONE)


def wanda_mask(weight_OI: Tensor, gram: Tensor, sparsity: float, *, pattern: str) -> Tensor:
    """Which weights go by Wanda, True where one does; as many in each row."""
    score = wanda_score(weight_OI, gram)
    return two_of_four(score) if pattern == "2:4" else lowest_of_each_row(score, sparsity)


def output_error(before_OI: Tensor, after_OI: Tensor, gram: Tensor) -> float:
    """Squared change of what the linear computes on the inputs of ``gram``."""
    change = (before_OI - after_OI).double()
    return float(((change @ gram) * change).sum())


def sparsegpt(weight_OI: Tensor, gram: Tensor, sparsity: float, *, pattern: str) -> Tensor:
    """A linear with zeros, its other weights moved to make up for them; never worse on ``gram`` than Wanda.

    Args:
        weight_OI: the matrix.
        gram: of its inputs, ``[in, in]``.
        sparsity: share of zeros; exactly reached by unstructured zeros.
        pattern: "unstructured" or "2:4" (then ``sparsity`` is half).

    Raises:
        ValueError: 2:4 of a width that is no multiple of 4.
    """
    wanda = wanda_mask(weight_OI, gram, sparsity, pattern=pattern)
    plain = weight_OI.masked_fill(wanda, 0.0)
    found = _greedy(weight_OI, gram, sparsity, pattern)
    if output_error(weight_OI, found, gram) <= output_error(weight_OI, plain, gram):
        return found
    if weight_OI.shape[1] > WIDEST_SOLVED:
        return plain
    solved = _solved(weight_OI, wanda, gram)
    return min((solved, plain), key=lambda one: output_error(weight_OI, one, gram))


def _greedy(weight_OI: Tensor, gram: Tensor, sparsity: float, pattern: str) -> Tensor:
    weight = weight_OI.double().clone()
    gone = weight_OI == 0
    upper = _inverse_root(gram)
    width = weight.shape[1]
    total, done = round(sparsity * weight.numel()), 0
    for begin in range(0, width, BLOCK):
        end = min(begin + BLOCK, width)
        part, factor = weight[:, begin:end].clone(), upper[begin:end, begin:end]
        errors = torch.zeros_like(part)
        score = (part / factor.diagonal()).square().masked_fill(gone[:, begin:end], GONE)
        # Each block takes its share, counted so that the sum is exact.
        wanted = round(total * end / width) - done
        mask = torch.zeros_like(part, dtype=torch.bool) if pattern == "2:4" else lowest(score, wanted)
        done += wanted
        for at in range(end - begin):
            if pattern == "2:4" and at % GROUP == 0:
                four = slice(at, at + GROUP)
                now = (part[:, four] / factor.diagonal()[four]).square()
                mask[:, four] = two_of_four(now.masked_fill(gone[:, begin:end][:, four], GONE))
            column = part[:, at]
            kept = column.masked_fill(mask[:, at], 0.0)
            error = (column - kept) / factor[at, at]
            part[:, at:] -= error[:, None] * factor[at, at:]
            part[:, at] = kept
            errors[:, at] = error
        weight[:, begin:end] = part
        weight[:, end:] -= errors @ upper[begin:end, end:]
    return weight.to(weight_OI.dtype)


def _inverse_root(gram: Tensor) -> Tensor:
    damped = gram.clone()
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return root


def _solved(weight_OI: Tensor, mask: Tensor, gram: Tensor) -> Tensor:
    # Least squares on the weights that stay, row by row: each row has zeros of its own.
    weight = weight_OI.double()
    found = torch.zeros_like(weight)
    ridge = 1e-8 * float(gram.diagonal().mean().clamp_min(1e-30))
    for row in range(len(weight)):
        stay = torch.nonzero(~mask[row]).squeeze(1)
        inner = gram[stay][:, stay].clone()
        inner.diagonal().add_(ridge)
        found[row, stay] = torch.linalg.solve(inner, gram[stay] @ weight[row])
    return found.to(weight_OI.dtype)
