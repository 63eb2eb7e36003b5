"""Fewer attention heads: as many in each block, each block its own.

Objective: keep the heads whose loss would change what the model computes (or its loss) most, see ``importance``. Where query
heads share keys and values, whole groups go, and their keys and values with them (a smaller KV cache).

Source: Michel et al., "Are Sixteen Heads Really Better than One?", 2019; Voita et al., "Analyzing Multi-Head Self-Attention", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.compression.cutting import CODE, CutOptions, cut
from build_engines.compression.importance import Measure, best, measure_importance
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import counts, number_kept
from build_engines.compression.step import Step, StepRecord, StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneHeads(CutOptions):
    """Fields of ``step = "prune_heads"``; ``keep`` is of query heads, a multiple of a group that shares keys and values.

    Attributes:
        importance: "activation" or "taylor".
    """

    importance: Measure = "activation"


def run(model: Compressible, options: PruneHeads, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Cut heads; see ``cutting.cut``."""
    have, group = model.sizes.heads, model.sizes.heads // model.sizes.kv_heads
    wanted = number_kept("heads of queries", options.keep, have, group)

    def keep_of(now: Compressible, size: int) -> Keep:
        found = measure_importance(now, options.importance, options.examples).heads_LH
        groups_LG = found.reshape(len(found), -1, group).sum(-1)
        return Keep(
            heads=tuple(
                tuple(kept * group + at for kept in best(groups_G, size // group) for at in range(group))
                for groups_G in groups_LG
            )
        )

    sizes = counts(have, wanted, options.rounds, group)
    return cut(
        model,
        options,
        work,
        step="prune_heads",
        by=options.importance,
        what="heads of each block",
        sizes=sizes,
        keep_of=keep_of,
    )


STEP = Step(name="prune_heads", options=PruneHeads, run=run, code=CODE)
