"""Fewer blocks: those go that do least.

Objective: keep the blocks with the most influence, by one of three measures:

- ``activation``: 1 - cos(in, out) of the residual stream (Men et al., "ShortGPT", 2024);
- ``taylor``: first-order change of the loss if the block added nothing (``importance``);
- ``removal``: the training loss without it, one block after the other, measured anew after each (Sajjad et al., "On the Effect
  of Dropping Layers of Pre-trained Transformer Models", 2020, search by importance). The dearest and the surest: it needs
  a run over the examples for every block that is left, for every block that goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from build_engines.compression.cutting import CODE, CutOptions, cut
from build_engines.compression.importance import (
    Floats,
    best,
    measure_importance,
    training_batches,
    without_dropout,
)
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import counts, number_kept
from build_engines.compression.step import Step, StepRecord, StepWork

Criterion = Literal["activation", "taylor", "removal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneBlocks(CutOptions):
    """Fields of ``step = "prune_blocks"``.

    Attributes:
        importance: "activation", "taylor" or "removal".
    """

    importance: Criterion = "activation"


def run(model: Compressible, options: PruneBlocks, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Cut blocks; see ``cutting.cut``."""
    have = model.sizes.blocks
    wanted = number_kept("blocks", options.keep, have)

    def keep_of(now: Compressible, size: int) -> Keep:
        if options.importance == "removal":
            return Keep(blocks=_by_removal(now, size, options.examples, work))
        return Keep(blocks=best(measure_importance(now, options.importance, options.examples).blocks_L, size))

    sizes = counts(have, wanted, options.rounds)
    return cut(
        model,
        options,
        work,
        step="prune_blocks",
        by=options.importance,
        what="blocks",
        sizes=sizes,
        keep_of=keep_of,
    )


def _by_removal(model: Compressible, size: int, examples: int, work: StepWork) -> tuple[int, ...]:
    kept = tuple(range(model.sizes.blocks))
    while len(kept) > size:
        losses: Floats = np.zeros(len(kept))
        for at in range(len(kept)):
            work.progress.step(f"loss without one of {len(kept)} blocks", at, len(kept))
            losses[at] = training_loss(model.narrowed(Keep(blocks=(*kept[:at], *kept[at + 1 :]))), examples)
        work.progress.step(f"loss without one of {len(kept)} blocks", len(kept), len(kept))
        gone = int(losses.argmin())
        kept = (*kept[:gone], *kept[gone + 1 :])
    return kept


@torch.no_grad()
def training_loss(model: Compressible, examples: int) -> float:
    """Mean loss of the first ``examples`` or so training examples, dropout off."""
    total, count = 0.0, 0
    with without_dropout(model.module):
        for batch in training_batches(model, examples):
            total += len(batch) * float(model.loss(batch))
            count += len(batch)
    return total / count


STEP = Step(name="prune_blocks", options=PruneBlocks, run=run, code=CODE)
