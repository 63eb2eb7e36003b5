"""A crew of processes: weights everywhere (DDP), or a part in each (FSDP2).

The learner's whole loss is computed inside one wrapped module, so it may reach into its network however it likes: with DDP
gradients meet while the backward pass still runs, with FSDP2 a block's weights are gathered when it is called, and all that
lies outside of blocks for the length of the loss.

Source:
    Li et al., "PyTorch Distributed", 2020; Zhao et al., "PyTorch FSDP", 2023.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from build_engines.compression.learning import Sharding, Taught
from build_engines.distributed import checkpoints
from build_engines.distributed.shards import part_of
from build_engines.tuning_loop.state import Facts, RunState


class _Root(nn.Module):
    def __init__(self, learner: Taught) -> None:
        super().__init__()
        self.network = learner.network
        self._learner = [learner]  # in a list: its modules must not be found twice

    def forward(self, batch: Sequence[int] | None) -> Any:
        learner = self._learner[0]
        return learner.judge() if batch is None else learner.loss(batch)


class Ranks:
    """See ``Crew``; the process group must be there.

    Args:
        learner: its network is wrapped in place.
        sharding: how weights lie.
        device: of this process.
    """

    def __init__(self, learner: Taught, sharding: Sharding, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.sharding = sharding
        root = _Root(learner).to(device)
        if sharding == "shard":
            mesh = init_device_mesh(device.type, (self.size,))
            for block in learner.student.blocks:
                fully_shard(learner.student.module.get_submodule(block.block), mesh=mesh)
            fully_shard(root, mesh=mesh)
            self._root: Any = root
        else:
            self._root = DistributedDataParallel(
                root,
                device_ids=[device.index] if device.type == "cuda" else None,
                find_unused_parameters=_has_idle(root, learner),
            )

    def part(self, batch: Sequence[int]) -> Sequence[int]:
        """See ``part_of``."""
        return part_of(batch, self.rank, self.size)

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Through the wrapped module."""
        loss: Tensor = self._root(batch)
        return loss

    @contextlib.contextmanager
    def turn(self, *, last: bool) -> Iterator[None]:
        """Gradients are kept here until the last batch of a step."""
        if isinstance(self._root, DistributedDataParallel):
            with contextlib.nullcontext() if last else self._root.no_sync():
                yield
            return
        assert isinstance(self._root, FSDPModule)
        self._root.set_requires_gradient_sync(last)
        yield

    @torch.no_grad()
    def judge(self) -> float:
        """What rank 0 finds; with weights in parts, all compute it together."""
        root: Any = self._root
        if isinstance(self._root, FSDPModule):
            found = root(None)
            for module in root.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()  # what was gathered to judge is stale after the next step
        else:
            found = root.module(None) if self.rank == 0 else 0.0
        told = torch.tensor([found], dtype=torch.float64, device=self.device)
        dist.broadcast(told, src=0)
        return float(told)

    def summed(self, value: float) -> float:
        """Of all ranks."""
        total = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total)

    def clipped(self, parameters: Iterable[Tensor], most: float) -> float:
        """The norm over all parts."""
        norm: Any = torch.nn.utils.clip_grad_norm_(parameters, most)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def save(self, path: Path, state: RunState, facts: Facts, identity: str) -> None:
        """A folder that every rank writes its part of."""
        checkpoints.save(path, state, facts, identity)

    def has(self, path: Path) -> bool:
        """Whether rank 0 sees one."""
        found = torch.tensor([int(checkpoints.latest(path) is not None)], device=self.device)
        dist.broadcast(found, src=0)
        return bool(found)

    def load(self, path: Path, state: RunState, identity: str, device: str) -> Facts:
        """Whatever number of ranks wrote it."""
        return checkpoints.load(path, state, identity)


def _has_idle(root: nn.Module, learner: Taught) -> bool:
    # To look for parameters that a loss does not reach takes a walk through its graph at every step: only where there are any.
    with torch.random.fork_rng(devices=[]):
        loss: Any = root(learner.plan(0).batches[0][:1])
        loss.backward()
    used = [one.grad is not None for one in root.parameters() if one.requires_grad]
    root.zero_grad(set_to_none=True)
    return not all(used)


def whole(parameters: dict[str, Any]) -> dict[str, Tensor]:
    """Weights in one piece, on the CPU; called by all ranks."""
    return {
        name: (one.full_tensor() if hasattr(one, "full_tensor") else one).detach().cpu().clone()
        for name, one in parameters.items()
    }
