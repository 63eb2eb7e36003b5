"""Cutting shapes in rounds: measure what matters, keep the best, learn, and again, until the size asked for.

What ``prune_heads``, ``prune_inner``, ``prune_width`` and ``prune_blocks`` do alike. The result is a model of smaller shapes, an
ordinary one of its family: nothing is masked.

Source of rounds with learning between: Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019; of few large
cuts by activations: Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from build_engines.compression.importance import Measure
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import (
    TRAINING,
    check_keep,
    check_rounds,
    finite_loss,
    recover,
    within,
)
from build_engines.compression.step import Curve, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError

CODE = ("build_engines.compression.cutting", "build_engines.compression.importance", *TRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """Fields that all cuts have.

    Attributes:
        keep: what is left: a share of what is there (above 0, below 1), or a number (whole, from 1 on).
        examples: that importance is measured on (1 to 1000000).
        rounds: cuts (1 to 100), to the same size in the end; more than one needs ``recovery``.
        recovery: fine-tuning after each round; without it the next step of the chain has to mend what was cut.
    """

    keep: int | float
    examples: int = 512
    rounds: int = 1
    recovery: LearningOptions | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        check_keep(self.keep)
        within("examples", self.examples, 1, 1_000_000)
        check_rounds(self.rounds, self.recovery)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions(CutOptions):
    """Fields of cuts of channels.

    Attributes:
        importance: "activation" or "taylor".
        multiple: what is left is a multiple of (1 to 1024): vectors of a CPU hold 8 or 16 numbers, a block of INT4 32.
    """

    importance: Measure = "activation"
    multiple: int = 32

    def __post_init__(self) -> None:
        """Check ranges."""
        CutOptions.__post_init__(self)
        within("multiple", self.multiple, 1, 1024)


def cut(
    model: Compressible,
    options: CutOptions,
    work: StepWork,
    *,
    step: str,
    what: str,
    by: str,
    sizes: Sequence[int],
    keep_of: Callable[[Compressible, int], Keep],
) -> tuple[Compressible, StepRecord]:
    """Cut to each size in turn, with fine-tuning behind each.

    Args:
        model: to cut; another is returned.
        options: of the step.
        work: where checkpoints lie and who is told.
        step: its name.
        what: is cut, for a person: "heads".
        by: which measure.
        sizes: how many are left after each round.
        keep_of: what to keep of a model, for so many left.

    Raises:
        BuildError: nothing would be left, the family cannot do without what is cut, or training went wrong.
    """
    before, weights_before = finite_loss(model, f"before {step}"), parameters_of(model.module)
    record = sizes_of(model.sizes)
    have, losses, curves = sizes[0], [before], list[Curve]()
    for at, size in enumerate(sizes, start=1):
        try:
            model = model.narrowed(keep_of(model, size))
        except BuildError as error:
            raise BuildError(f"{step}: {error}") from error
        have = size
        pruned = finite_loss(model, f"of {size} {what}")
        work.progress.say(f"  {step}: {size} {what} left, held-out loss {losses[-1]:.4f} to {pruned:.4f}")
        curves += recover(model, options.recovery, work, f"round {at}", options)
        losses.append(
            finite_loss(model, f"of {size} {what} after fine-tuning") if options.recovery else pruned
        )
    weights = parameters_of(model.module)
    return model, StepRecord(
        step=step,
        said=(
            f"{have} {what} are left by {by}, in {len(sizes)} {'round' if len(sizes) == 1 else 'rounds'}; "
            f"{weights:,} of {weights_before:,} parameters"
        ),
        figures={
            "loss before": before,
            "loss pruned": pruned,
            "loss after": losses[-1],
            "parameters before": float(weights_before),
            "parameters after": float(weights),
        },
        before=record,
        after=sizes_of(model.sizes),
        curves=(
            Curve(
                name=f"held-out loss by {what} left",
                x=what,
                y="loss (nats)",
                points=tuple(zip(map(float, sizes), losses[1:], strict=True)),
            ),
            *curves,
        ),
    )


def parameters_of(module: nn.Module) -> int:
    """Numbers in a network, shared ones once."""
    return sum(one.numel() for one in module.parameters())
