"""Blocks that hold the same parameters, kept so from step to step.

A checkpoint of a family knows no sharing: it has the weights of each block, written out. So what is shared is told by the weights
themselves: blocks that are equal to the bit when a model is opened share again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from build_engines.compression.model import Compressible


@torch.no_grad()
def share(blocks: Sequence[nn.Module], take: str) -> None:
    """Let all blocks hold the parameters of the first."""
    leader = blocks[0]
    for name, parameter in list(leader.named_parameters()):
        if take == "mean":
            parameter.copy_(torch.stack([one.get_parameter(name) for one in blocks]).mean(0))
        for follower in blocks[1:]:
            path, _, leaf = name.rpartition(".")
            setattr(follower.get_submodule(path), leaf, parameter)


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """All tensors of a network by name, on the CPU, each of its own: what a checkpoint holds that knows no sharing."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, one in module.state_dict().items():
        tensor = one.detach().cpu().contiguous()
        found[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return found


@torch.no_grad()
def share_again(model: Compressible) -> int:
    """Let blocks whose weights are equal to the bit hold the same parameters, as before they were saved.

    Returns:
        How many blocks hold those of another.
    """
    leaders: list[nn.Module] = []
    followers = 0
    for names in model.blocks:
        block = model.module.get_submodule(names.block)
        leader = next((one for one in leaders if _equal(one, block)), None)
        if leader is None:
            leaders.append(block)
        else:
            share([leader, block], "first")
            followers += 1
    return followers


def _equal(one: nn.Module, other: nn.Module) -> bool:
    parameters = zip(one.parameters(), other.parameters(), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in parameters)


def shared_parameters(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names that hold the parameter of another name, and that name."""
    first: dict[int, str] = {}
    for name, one in module.named_parameters(remove_duplicate=False):
        if id(one) in first:
            yield name, first[id(one)]
        first.setdefault(id(one), name)
