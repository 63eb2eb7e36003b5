"""Blocks that share their weights: later ones reuse those of an earlier one, which are learnt for all of them together.

Objective: the model's own loss, over ``keep`` distinct sets of weights in place of one for each block. It makes a model smaller
and not faster: every block is still computed. While it trains the blocks hold the same parameters; a checkpoint of the family
has them written out for each block, and what is published holds equal tensors once (``onnx_writer``, ``causal.store``).

A chain opens the model anew for each step; blocks that are equal to the bit then share again (``sharing``), as zeros are held
because they are zeros. A later cut that gives each block channels of its own (``prune_heads``, ``prune_inner``) ends the sharing: share last.

Sources: Lan et al., "ALBERT", 2019; Takase and Kiyono, "Lessons on Parameter Sharing across Layers in Transformers", 2021
(sequence, cycle); Liu et al., "MobileLLM", 2024 (neighbours share).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from build_engines.compression.cutting import CODE, parameters_of
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import Compressible
from build_engines.compression.schedule import check_keep, finite_loss, number_kept, recover
from build_engines.compression.sharing import share
from build_engines.compression.step import Step, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareBlocks:
    """Fields of ``step = "share_blocks"``.

    Attributes:
        keep: distinct sets of weights: a share of the blocks (above 0, below 1) or a number (whole, from 1 on).
        order: "sequence": neighbours share (AABB); "cycle": blocks take turns (ABAB).
        take: the weights to begin with: the "mean" of those that share, or those of the "first".
        recovery: fine-tuning with shared weights; without it a chain needs another step that trains.
    """

    keep: int | float
    order: Literal["sequence", "cycle"] = "sequence"
    take: Literal["mean", "first"] = "first"
    recovery: LearningOptions | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        check_keep(self.keep)


def run(model: Compressible, options: ShareBlocks, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Share, in place.

    Raises:
        BuildError: more sets than blocks, one block only, or training went wrong.
    """
    have = model.sizes.blocks
    wanted = number_kept("blocks", options.keep, have)
    if wanted == have:
        raise BuildError(
            f"share_blocks: {have} blocks with {wanted} sets of weights share nothing; keep fewer"
        )
    before, weights = finite_loss(model, "before share_blocks"), parameters_of(model.module)
    names = [one.block for one in model.blocks]
    for group in groups_of(have, wanted, options.order):
        share([model.module.get_submodule(names[at]) for at in group], options.take)
    pruned = finite_loss(model, "with shared blocks")
    curves = recover(model, options.recovery, work, "shared", options)
    after = finite_loss(model, "with shared blocks after fine-tuning") if options.recovery else pruned
    shared = parameters_of(model.module)
    return model, StepRecord(
        step="share_blocks",
        said=f"{have} blocks share {wanted} sets of weights ({options.order}); {shared:,} of {weights:,} parameters",
        figures={
            "sets": float(wanted),
            "loss before": before,
            "loss pruned": pruned,
            "loss after": after,
            "parameters before": float(weights),
            "parameters after": float(shared),
        },
        before=sizes_of(model.sizes),
        after=sizes_of(model.sizes),
        curves=curves,
    )


def groups_of(blocks: int, sets: int, order: str) -> tuple[tuple[int, ...], ...]:
    """Which blocks share, as evenly as it goes."""
    if order == "cycle":
        return tuple(tuple(range(at, blocks, sets)) for at in range(sets))
    return tuple(tuple(part.tolist()) for part in np.array_split(np.arange(blocks), sets))


STEP = Step(
    name="share_blocks", options=ShareBlocks, run=run, code=(*CODE, "build_engines.compression.sharing")
)
