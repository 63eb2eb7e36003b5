"""The model's own arithmetic in torch, a block at a time, for calibration: what goes into each product.

A block's weights are in memory only while it is computed, so that the builder's memory stays below the checkpoint's size.
Parity with the graph is a test.

Suffixes: B texts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from build_engines.models.causal.architecture import Architecture
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.causal.layout import (
    EMBEDDING,
    FINAL_NORM,
    Layer,
    Matrix,
    head_layout,
    layer_layout,
)
from build_engines.models.causal.options import Ids

# Called for each product with the inputs of all batches, ``[tokens, K]``.
Look = Callable[[Matrix, torch.Tensor], None]


@torch.no_grad()
def walk(arch: Architecture, checkpoint: Checkpoint, batches: Sequence[Ids], look: Look) -> None:
    """Compute all batches block by block and show what each product reads."""
    hidden = [_embed(checkpoint, ids) for ids in batches]
    turns = [_turns(arch, ids.shape[1]) for ids in batches]
    for index in range(arch.layers):
        layer = layer_layout(arch, index)
        normed = [_norm(arch, checkpoint, x, layer.norm1) for x in hidden]
        _show(look, layer.qkv, normed)
        weights = _Weights(checkpoint, layer.qkv)
        attended = [
            _attention(arch, checkpoint, layer, weights(y), turn)
            for y, turn in zip(normed, turns, strict=True)
        ]
        _show(look, layer.out, attended)
        weights = _Weights(checkpoint, layer.out)
        hidden = [x + weights(y) for x, y in zip(hidden, attended, strict=True)]
        normed = [_norm(arch, checkpoint, x, layer.norm2) for x in hidden]
        _show(look, layer.gate_up, normed)
        weights = _Weights(checkpoint, layer.gate_up)
        inner = [_inner(weights(y)) for y in normed]
        _show(look, layer.down, inner)
        weights = _Weights(checkpoint, layer.down)
        hidden = [x + weights(y) for x, y in zip(hidden, inner, strict=True)]
        checkpoint.release()
    _show(look, head_layout(arch), [_norm(arch, checkpoint, x, FINAL_NORM) for x in hidden])


class _Weights:
    """A matrix as it is stored, ``[N, K]``, with its bias."""

    def __init__(self, checkpoint: Checkpoint, matrix: Matrix) -> None:
        parts = [checkpoint.array(part) for part in matrix.parts]
        self._weight = torch.tensor(parts[0] if len(parts) == 1 else np.concatenate(parts))
        biases = [checkpoint.array(part) for part in matrix.bias]
        self._bias = torch.from_numpy(np.concatenate(biases)) if biases else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


def _embed(checkpoint: Checkpoint, ids_BT: Ids) -> torch.Tensor:
    tokens, place = np.unique(ids_BT, return_inverse=True)
    rows = np.concatenate([checkpoint.rows(EMBEDDING, int(one), int(one) + 1) for one in tokens])
    return torch.from_numpy(rows[place.reshape(ids_BT.shape)])


def _turns(arch: Architecture, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = np.outer(np.arange(length), arch.rope.frequencies(arch.head_dim))
    return torch.from_numpy(np.cos(angles)).float(), torch.from_numpy(np.sin(angles)).float()


def _norm(arch: Architecture, checkpoint: Checkpoint, x: torch.Tensor, name: str) -> torch.Tensor:
    weight = torch.tensor(checkpoint.array(name))
    return functional.rms_norm(x, (x.shape[-1],), weight, arch.norm_eps)


def _attention(
    arch: Architecture,
    checkpoint: Checkpoint,
    layer: Layer,
    qkv: torch.Tensor,
    turns: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    q, k, v = torch.split(qkv, list(layer.qkv.columns), dim=-1)
    heads = [x.reshape(*x.shape[:2], -1, arch.head_dim) for x in (q, k, v)]
    if arch.qk_norm:
        heads[0] = _norm(arch, checkpoint, heads[0], layer.q_norm)
        heads[1] = _norm(arch, checkpoint, heads[1], layer.k_norm)
    q, k, v = (x.transpose(1, 2) for x in heads)
    y = functional.scaled_dot_product_attention(
        _rotate(q, turns), _rotate(k, turns), v, is_causal=True, enable_gqa=True
    )
    return y.transpose(1, 2).flatten(2)


def _rotate(x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cosine, sine = turns
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _inner(both: torch.Tensor) -> torch.Tensor:
    gate, up = both.chunk(2, dim=-1)
    return functional.silu(gate) * up


def _show(look: Look, matrix: Matrix, inputs: Sequence[torch.Tensor]) -> None:
    look(matrix, torch.cat([x.flatten(0, 1) for x in inputs]))
