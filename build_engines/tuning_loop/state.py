"""Everything a run is made of, and its checkpoint in one file: written aside, synced and renamed, so it is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Facts = dict[str, Any]  # numbers, strings and lists of them


class CheckpointDamaged(ValueError):
    """A checkpoint cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: the checkpoint cannot be read ({why}); delete it to start this training anew"
        )
        self.path = path


class CheckpointForeign(ValueError):
    """A checkpoint is of another training."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} belongs to another model, configuration or data; delete it to start anew")
        self.path = path


@dataclass(slots=True, kw_only=True)
class RunState:
    """Tensors of a run.

    Attributes:
        parameters: what is trained, by name.
        optimizers: of all of them.
        best: weights of the best point.
        mean: running mean of the weights; empty without one.
    """

    parameters: Mapping[str, nn.Parameter]
    optimizers: Sequence[torch.optim.Optimizer]
    best: dict[str, Tensor]
    mean: dict[str, Tensor]


def save_file(path: Path, state: RunState, facts: Facts, identity: str) -> None:
    """Write a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + f".{os.getpid()}.part")
    held = {
        "identity": identity,
        "parameters": {name: one.detach() for name, one in state.parameters.items()},
        "optimizers": [one.state_dict() for one in state.optimizers],
        "best": state.best,
        "mean": state.mean,
        "facts": facts,
    }
    try:
        with aside.open("wb") as file:
            torch.save(held, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def load_file(path: Path, state: RunState, identity: str, device: str) -> Facts:
    """Put a checkpoint into ``state``.

    Raises:
        CheckpointDamaged: it is cut short, or no checkpoint.
        CheckpointForeign: it is of another training.
    """
    try:
        held = torch.load(path, map_location=device, weights_only=True)
        found = held["identity"]
    except Exception as error:  # a cut archive raises what its reader happens to meet
        raise CheckpointDamaged(path, str(error).partition("\n")[0] or type(error).__name__) from error
    if found != identity:
        raise CheckpointForeign(path)
    load_state(state.parameters, held["parameters"])
    for optimizer, kept in zip(state.optimizers, held["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    load_state(state.best, held["best"])
    load_state(state.mean, held["mean"])
    facts: Facts = held["facts"]
    return facts


def copied(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, of their own."""
    return {name: one.detach().clone() for name, one in parameters.items()}


@torch.no_grad()
def load_state(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Put what ``state`` has into the parameters of that name."""
    for name, one in state.items():
        parameters[name].copy_(one)
