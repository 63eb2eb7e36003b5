"""A narrower residual path: the same channels go from every block, table and norm.

Objective: keep the channels that hold most of the residual stream (or whose loss would change the loss most), summed over all
blocks, see ``importance``. It is the deepest cut, for every matrix shrinks, and the one that hurts most without learning: a norm
over fewer channels has other statistics. Heads keep their width and number.

Source: Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024 (embedding channels);
Ashkboos et al., "SliceGPT", 2024, for another basis, which this is not: channels stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.compression.cutting import CODE, ChannelOptions, cut
from build_engines.compression.importance import best, measure_importance
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import counts, number_kept
from build_engines.compression.step import Step, StepRecord, StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneWidth(ChannelOptions):
    """Fields of ``step = "prune_width"``: those of every cut of channels."""


def run(model: Compressible, options: PruneWidth, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Cut the width; see ``cutting.cut``."""
    have = model.sizes.dim
    wanted = number_kept("channels", options.keep, have, options.multiple)

    def keep_of(now: Compressible, size: int) -> Keep:
        return Keep(dims=best(measure_importance(now, options.importance, options.examples).dims_D, size))

    sizes = counts(have, wanted, options.rounds, options.multiple)
    what = "channels of the residual path"
    return cut(
        model,
        options,
        work,
        step="prune_width",
        by=options.importance,
        what=what,
        sizes=sizes,
        keep_of=keep_of,
    )


STEP = Step(name="prune_width", options=PruneWidth, run=run, code=CODE)
