"""A recommender's parameters: from what ``train`` exported, and cut to smaller shapes.

Suffixes: R rows of the table, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from build_engines.compression.families.narrowing import Cut, NormChange, adjust, columns_of, taken
from build_engines.models.sasrec import SasRec, SasRecConfig

LINEARS = ("qkv", "out", "up", "down")


def state_of_export(weights: Mapping[str, npt.NDArray[Any]], config: SasRecConfig) -> dict[str, Tensor]:
    """Parameters of ``SasRec`` without attributes from what ``export_weights`` gave: attributes are folded in."""
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    # The exported table is unit rows over tau, and the scale undoes that and holds sqrt(dim).
    raw_R1 = arrays["input_scale_N"][:, None] / config.dim**0.5
    state = {
        "items.weight": arrays["item_emb_ND"] * raw_R1,
        "positions": arrays["position_LD"],
        "final_norm.weight": arrays["final_norm_weight"],
        "final_norm.bias": arrays["final_norm_bias"],
    }
    for index in range(config.blocks):
        for name in ("norm1", "norm2", *LINEARS):
            weight = arrays[f"blocks.{index}.{name}_weight"]
            state[f"blocks.{index}.{name}.weight"] = weight.T.contiguous() if weight.ndim == 2 else weight
            state[f"blocks.{index}.{name}.bias"] = arrays[f"blocks.{index}.{name}_bias"]
    return state


def cut_state(
    module: SasRec, cut: Cut, table_RD: Tensor, changes: Mapping[str, NormChange]
) -> dict[str, Tensor]:
    """Parameters of the smaller network; ``table_RD`` is its table before the width is cut."""
    sizes = module.config
    dims = cut.dims
    scale = (sizes.dim / len(dims)) ** 0.5  # the lookup multiplies by sqrt(dim), which is smaller now
    state = {
        "items.weight": taken(table_RD, None, dims) * scale,
        "positions": taken(module.positions, None, dims),
        "final_norm.weight": taken(module.final_norm.weight, dims),
        "final_norm.bias": taken(module.final_norm.bias, dims),
    }
    adjust(state, "final_norm", changes.get("final_norm"))
    width = sizes.heads * sizes.head_width
    for place, index in enumerate(cut.blocks):
        own = columns_of(cut.heads[place], sizes.head_width)
        qkv = [part * width + column for part in range(3) for column in own]
        inner = cut.inner[place]
        axes: dict[str, tuple[Sequence[int], Sequence[int] | None]] = {
            "norm1": (dims, None),
            "qkv": (qkv, dims),
            "out": (dims, own),
            "norm2": (dims, None),
            "up": (inner, dims),
            "down": (dims, inner),
        }
        for name, (rows, columns) in axes.items():
            layer = module.blocks[index].get_submodule(name)
            weight = layer.get_parameter("weight")
            state[f"blocks.{place}.{name}.weight"] = (
                taken(weight, rows, columns) if weight.ndim == 2 else taken(weight, rows)
            )
            state[f"blocks.{place}.{name}.bias"] = taken(layer.get_parameter("bias"), rows)
        for name in ("norm1", "norm2"):
            adjust(state, f"blocks.{place}.{name}", changes.get(f"blocks.{index}.{name}"))
    return state
