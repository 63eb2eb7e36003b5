"""Gradient checkpointing of any model that names its blocks: what a block computes is computed again in the backward pass.

Source:
    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class _Recomputed:
    # A class, not a closure: a lesson that is sent to other processes is pickled.
    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *args: Any, **named: Any) -> Any:
        forward = type(self.block).forward
        if not (self.block.training and torch.is_grad_enabled()):
            return forward(self.block, *args, **named)
        return checkpoint(forward, self.block, *args, use_reentrant=False, **named)


def recomputed(module: nn.Module, blocks: Sequence[str]) -> None:
    """Let these submodules compute again what they do not keep; dropout is drawn again as it was."""
    for name in blocks:
        block: Any = module.get_submodule(name)
        block.forward = _Recomputed(block)


def undone(module: nn.Module) -> None:
    """Undo ``recomputed``, if it was done."""
    for one in module.modules():
        if isinstance(one.__dict__.get("forward"), _Recomputed):
            del one.__dict__["forward"]
