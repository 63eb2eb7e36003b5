"""A narrower feed-forward part: as many inner channels in each block, each block its own.

Objective: keep the channels whose loss would change what the model computes (or its loss) most, see ``importance``.

Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019; Muralidharan et al., "Compact Language Models
via Pruning and Knowledge Distillation", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.compression.cutting import CODE, ChannelOptions, cut
from build_engines.compression.importance import best, measure_importance
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import counts, number_kept
from build_engines.compression.step import Step, StepRecord, StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneInner(ChannelOptions):
    """Fields of ``step = "prune_inner"``: those of every cut of channels."""


def run(model: Compressible, options: PruneInner, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Cut inner channels; see ``cutting.cut``."""
    have = model.sizes.inner
    wanted = number_kept("inner channels", options.keep, have, options.multiple)

    def keep_of(now: Compressible, size: int) -> Keep:
        found = measure_importance(now, options.importance, options.examples).inner_LF
        return Keep(inner=tuple(best(inner_F, size) for inner_F in found))

    sizes = counts(have, wanted, options.rounds, options.multiple)
    what = "inner channels of each block"
    return cut(
        model,
        options,
        work,
        step="prune_inner",
        by=options.importance,
        what=what,
        sizes=sizes,
        keep_of=keep_of,
    )


STEP = Step(name="prune_inner", options=PruneInner, run=run, code=CODE)
