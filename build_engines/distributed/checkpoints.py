"""Checkpoints that all ranks write and any number of ranks reads: ``<path>/step-<n>/``, by torch.distributed.checkpoint.

A folder is written aside and renamed when every rank is done, so one with its name is whole; the newest counts, the one before
goes when there is a newer. Tensors are known by the names of parameters, never by their place.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver

from build_engines.tuning_loop.state import CheckpointDamaged, CheckpointForeign, Facts, RunState

FACTS_FILE = "facts.json"
_PREFIX = "step-"


def latest(path: Path) -> Path | None:
    """The newest whole checkpoint."""
    if not path.is_dir():
        return None
    found = [one for one in path.iterdir() if one.name.startswith(_PREFIX) and (one / FACTS_FILE).is_file()]
    return max(found, key=_step, default=None)


def save(path: Path, state: RunState, facts: Facts, identity: str) -> None:
    """Write a checkpoint; called by all ranks."""
    step = int(facts["numbers"][0])
    aside, final = path / f".aside-{step}", path / f"{_PREFIX}{step}"
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    dist.barrier()
    state_dict_saver.save(_tensors(state), checkpoint_id=str(aside))
    dist.barrier()
    if first:
        with (aside / FACTS_FILE).open("w", encoding="utf-8") as file:
            json.dump({"identity": identity, "facts": facts}, file)
            file.flush()
            os.fsync(file.fileno())
        before = latest(path)
        shutil.rmtree(final, ignore_errors=True)  # of a run that was killed and judged again
        os.replace(aside, final)
        if before is not None and before != final:
            shutil.rmtree(before, ignore_errors=True)
    dist.barrier()


def load(path: Path, state: RunState, identity: str) -> Facts:
    """Put the newest checkpoint into ``state``; called by all ranks.

    Raises:
        CheckpointDamaged: it is cut short.
        CheckpointForeign: it is of another training.
    """
    folder = latest(path)
    if folder is None:
        raise CheckpointDamaged(path, "another process saw one, this one does not: is the folder shared?")
    held = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    if held["identity"] != identity:
        raise CheckpointForeign(folder)
    _warm(state)
    tensors = _tensors(state)
    try:
        state_dict_loader.load(tensors, checkpoint_id=str(folder))
    except Exception as error:  # of its own kinds, and of the reader of files
        raise CheckpointDamaged(folder, str(error).partition("\n")[0]) from error
    facts: Facts = held["facts"]
    return facts


def _tensors(state: RunState) -> dict[str, Tensor]:
    # The same storage as the run's own: what is loaded into them is loaded into the run.
    found: dict[str, Tensor] = {f"parameters/{name}": one.detach() for name, one in state.parameters.items()}
    for kind, held in (("best", state.best), ("mean", state.mean)):
        found |= {f"{kind}/{name}": one for name, one in held.items()}
    names = {id(one): name for name, one in state.parameters.items()}
    for place, optimizer in enumerate(state.optimizers):
        for parameter, kept in optimizer.state.items():
            for key, value in kept.items():
                if isinstance(value, Tensor):
                    found[f"optimizers/{place}/{names[id(parameter)]}/{key}"] = value
    return found


def _warm(state: RunState) -> None:
    # Optimizers make their tensors in their first step; one that moves nothing makes the places to load into.
    for optimizer in state.optimizers:
        rates = [(group, group["lr"]) for group in optimizer.param_groups]
        for group, _ in rates:
            group["lr"] = 0.0
            for one in group["params"]:
                one.grad = torch.zeros_like(one)
        step: Any = optimizer.step
        step()
        optimizer.zero_grad(set_to_none=True)
        for group, rate in rates:
            group["lr"] = rate


def _step(folder: Path) -> int:
    text = folder.name.removeprefix(_PREFIX)
    return int(text) if text.isdecimal() else -1
