"""Zeros in matrices: the weights that a model can do without, by one of five ways to tell which.

What is minimized, and its source:

- ``magnitude``: |W - W'|^2, the smallest weights go, of all matrices together or of each (Han et al., "Learning both Weights and
  Connections", 2015; schedule by Zhu and Gupta, 2017).
- ``l1``: J(W) = L(W) + lambda * |W|_1 by proximal steps: after each step of the optimizer every weight moves towards zero by
  rate * lambda and stops there (Beck and Teboulle, "FISTA", 2009, section 1), so zeros are true ones.
- ``movement``: L(W) with learnt scores (``movement``).
- ``wanda``, ``sparsegpt``: what each linear computes on calibration examples (``sparsegpt``).

The pattern is unstructured, or 2:4 for TensorRT's sparse kernels. Unstructured zeros make files smaller once they are compressed
and make nothing faster: the record says bytes after compression and no speed.

Rounds with fine-tuning between follow the cubic schedule; zeros stay zero while tuning. Scope, where weights are compared:
``global`` or ``layer`` for magnitude and movement; Wanda compares inside rows, SparseGPT inside blocks of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from build_engines.compression.importance import linear_inputs
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import BlockNames, Compressible
from build_engines.compression.movement import Scope, prune_by_movement
from build_engines.compression.packed_size import packed_bytes, parameter_arrays, stored_bytes
from build_engines.compression.proximal import prune_by_l1
from build_engines.compression.schedule import (
    TRAINING,
    Kind,
    check_rounds,
    finite_loss,
    points_from,
    recover,
    sparsities,
    within,
)
from build_engines.compression.semi_structured import (
    GONE,
    GROUP,
    is_two_of_four,
    lowest,
    lowest_of_all,
    two_of_four,
)
from build_engines.compression.sparsegpt import gram_II, sparsegpt, wanda_mask
from build_engines.compression.step import Curve, Step, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError

Method = Literal["magnitude", "l1", "movement", "wanda", "sparsegpt"]
Pattern = Literal["unstructured", "2:4"]
_ALL = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneWeights:
    """Fields of ``step = "prune_weights"``.

    Attributes:
        method: how to tell which weights go.
        sparsity: share of zeros in the pruned matrices (above 0, below 1; half of them with pattern 2:4). l1 without it takes
            what lambda gives.
        pattern: "unstructured" or "2:4".
        scope: what weights are compared across ("magnitude", "movement", and "l1" with a sparsity).
        linears: patterns of names of linears, as "blocks.*.up"; default: every linear of every block.
        table: prune the table of items or tokens too ("magnitude" only).
        schedule: "cubic" over ``rounds``, or "one_shot".
        rounds: prunings (1 to 100); more than one needs ``recovery``.
        calibration: examples for wanda and sparsegpt (1 to 100000).
        l1: lambda of method l1 (above 0, at most 1).
        score_rate: learning rate of movement's scores over that of the weights (above 0, at most 10000).
        recovery: fine-tuning after each round; the training itself for l1 and movement.
    """

    method: Method = "magnitude"
    sparsity: float | None = None
    pattern: Pattern = "unstructured"
    scope: Scope = "layer"
    linears: tuple[str, ...] = _ALL
    table: bool = False
    schedule: Kind = "cubic"
    rounds: int = 1
    calibration: int = 128
    l1: float = 1e-5
    score_rate: float = 10.0
    recovery: LearningOptions | None = None

    def __post_init__(self) -> None:
        """Check ranges and what fields say of each other."""
        if self.sparsity is not None:
            within("sparsity", self.sparsity, 0.001, 0.999)
        elif self.method != "l1" and self.pattern == "unstructured":
            raise ValueError("sparsity is missing; give the share of zeros, 0.001 to 0.999")
        within("calibration", self.calibration, 1, 100_000)
        within("l1", self.l1, 1e-12, 1.0)
        within("score_rate", self.score_rate, 1e-6, 1e4)
        if not self.linears and not self.table:
            raise ValueError('linears is empty; name at least one pattern, as "*"')
        if self.pattern == "2:4" and self.sparsity not in (None, 0.5):
            raise ValueError(
                f"sparsity is {self.sparsity}; pattern 2:4 is half zeros: use 0.5, or leave it out"
            )
        if self.pattern == "2:4" and self.rounds > 1:
            raise ValueError(f"rounds is {self.rounds}; pattern 2:4 is pruned at once, use 1")
        if self.method in ("l1", "movement"):
            if self.recovery is None:
                raise ValueError(
                    f"recovery is missing; method {self.method} prunes while it trains: give recovery = {{ epochs = 3 }}"
                )
            if self.rounds > 1 or self.recovery.processes > 1:
                raise ValueError(
                    f"rounds is {self.rounds} and recovery.processes {self.recovery.processes}; method {self.method} prunes "
                    "while it trains, in one process: use 1 and 1"
                )
        check_rounds(self.rounds, self.recovery)
        if self.table and self.method != "magnitude":
            raise ValueError(f'table = true goes with method "magnitude" only, not {self.method!r}')

    @property
    def share(self) -> float:
        """Zeros asked for."""
        return 0.5 if self.sparsity is None else self.sparsity


def run(model: Compressible, options: PruneWeights, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Prune in place.

    Raises:
        BuildError: no linear has a name as asked for, 2:4 of a width that is no multiple of 4, a whole matrix would be zeros,
            or training went wrong.
    """
    names = chosen_linears(model, options)
    matrices = [f"{name}.weight" for name in names] + ([model.table] if options.table else [])
    before = finite_loss(model, "before prune_weights")
    plain, packed = _sizes(model)
    curves: list[Curve] = []
    pruned_loss = float("nan")
    if options.recovery is not None and options.method in ("l1", "movement"):
        curves.append(_learnt(model, names, options, options.recovery, work))
        _refuse_nothing(model, matrices, options.share)
        pruned_loss = finite_loss(model, f"after {options.method}")
    else:
        kind = "one_shot" if options.pattern == "2:4" else options.schedule
        for at, share in enumerate(sparsities(options.share, options.rounds, kind), start=1):
            _prune(model, names, matrices, options, share, work)
            _refuse_nothing(model, matrices, share)
            pruned_loss = finite_loss(model, f"after round {at}")
            curves += recover(model, options.recovery, work, f"round {at}", options)
    if options.pattern == "2:4":
        _check_pattern(model, matrices)
    after = finite_loss(model, "after prune_weights")
    zeros, weights = _zeros(model, matrices)
    packed_after = _sizes(model)[1]
    curves.append(_of_matrices(model, matrices))
    said = (
        f"{zeros / weights:.1%} of the weights of {len(matrices)} matrices are zero"
        f"{' (2:4)' if options.pattern == '2:4' else ''} by {options.method}; after compression the model is "
        f"{packed_after / packed:.0%} of what it was ({packed_after:,} of {packed:,} bytes)"
    )
    return model, StepRecord(
        step="prune_weights",
        said=said,
        figures={
            "sparsity": zeros / weights,
            "zeros": zeros,
            "loss before": before,
            "loss pruned": pruned_loss,
            "loss after": after,
            "bytes": plain,
            "bytes packed before": packed,
            "bytes packed after": packed_after,
            "two of four": float(options.pattern == "2:4"),
        },
        before=sizes_of(model.sizes),
        after=sizes_of(model.sizes),
        curves=tuple(curves),
    )


def chosen_linears(model: Compressible, options: PruneWeights) -> tuple[str, ...]:
    """Names of the linears to prune, block by block.

    Raises:
        BuildError: there is none, or one that has the wrong width for 2:4.
    """
    everything = tuple(name for block in model.blocks for name in block.linears)
    found = tuple(name for name in everything if any(fnmatchcase(name, one) for one in options.linears))
    if not found and not options.table:
        raise BuildError(
            f"prune_weights: no linear is called {', '.join(options.linears) or 'nothing'}; there are {', '.join(everything[:8])}..."
        )
    if options.pattern == "2:4":
        for name in found:
            width = _weight(model.module, f"{name}.weight").shape[1]
            if width % GROUP:
                raise BuildError(
                    f"prune_weights: {name} is {width} wide, 2:4 needs a multiple of {GROUP}; leave it out of linears"
                )
    return found


def _learnt(
    model: Compressible,
    names: Sequence[str],
    options: PruneWeights,
    recovery: LearningOptions,
    work: StepWork,
) -> Curve:
    ramp = 0
    if options.method == "movement":
        result, ramp = prune_by_movement(
            model,
            names,
            recovery,
            work,
            sparsity=options.share,
            pattern=options.pattern,
            scope=options.scope,
            score_rate=options.score_rate,
            settings=options,
        )
    else:
        result = prune_by_l1(model, names, recovery, work, strength=options.l1, settings=options)
        if options.sparsity is not None or options.pattern == "2:4":
            # What lambda left above the share asked for goes by magnitude, which is what l1 made small.
            _by_magnitude(model, [f"{name}.weight" for name in names], options, options.share)
    return Curve(
        name=f"held-out loss, {options.method}",
        x="step",
        y="nats, with lambda |W|" if options.method == "l1" else "nats",
        points=tuple(points_from(result, ramp)),
    )


@torch.no_grad()
def _prune(
    model: Compressible,
    names: Sequence[str],
    matrices: Sequence[str],
    options: PruneWeights,
    share: float,
    work: StepWork,
) -> None:
    if options.method == "magnitude":
        _by_magnitude(model, matrices, options, share)
        return
    for at, block in enumerate(model.blocks):
        work.progress.step(f"{options.method}, block", at, len(model.blocks))
        _by_inputs(model, block, [name for name in names if name in block.linears], options, share)
    work.progress.step(f"{options.method}, block", len(model.blocks), len(model.blocks))


def _by_inputs(
    model: Compressible, block: BlockNames, names: Sequence[str], options: PruneWeights, share: float
) -> None:
    # Block after block: inputs are those that the pruned blocks before make.
    if not names:
        return
    grams: dict[str, Tensor] = {}
    for inputs in linear_inputs(model, tuple(names), options.calibration):
        for name, x in inputs.items():
            grams[name] = gram_II([x]) + grams.get(name, 0)
    for name in names:
        weight = _weight(model.module, f"{name}.weight")
        if options.method == "wanda":
            mask = wanda_mask(weight, grams[name], share, pattern=options.pattern)
            weight.masked_fill_(mask, 0.0)
        else:
            weight.copy_(sparsegpt(weight, grams[name], share, pattern=options.pattern))


@torch.no_grad()
def _by_magnitude(model: Compressible, matrices: Sequence[str], options: PruneWeights, share: float) -> None:
    scores = {}
    for name in matrices:
        weight = _weight(model.module, name)
        scores[name] = weight.abs().masked_fill(weight == 0, GONE)
    if options.pattern == "2:4":
        masks = {name: two_of_four(score) for name, score in scores.items()}
    elif options.scope == "global":
        masks = lowest_of_all(scores, share)
    else:
        masks = {name: lowest(score, round(share * score.numel())) for name, score in scores.items()}
    for name, mask in masks.items():
        _weight(model.module, name).masked_fill_(mask, 0.0)


def _refuse_nothing(model: Compressible, matrices: Sequence[str], share: float) -> None:
    for name in matrices:
        if not _weight(model.module, name).any():
            raise BuildError(
                f"prune_weights: {name} would be nothing but zeros at a sparsity of {share:g}; ask for less, or use "
                'scope = "layer"'
            )


def _check_pattern(model: Compressible, matrices: Sequence[str]) -> None:
    for name in matrices:
        if not is_two_of_four(_weight(model.module, name)):
            raise BuildError(
                f"prune_weights: {name} does not hold 2:4 after pruning; this is an error of ours"
            )


def _zeros(model: Compressible, matrices: Sequence[str]) -> tuple[int, int]:
    weights = [_weight(model.module, name) for name in matrices]
    return sum(int((one == 0).sum()) for one in weights), sum(one.numel() for one in weights)


def _of_matrices(model: Compressible, matrices: Sequence[str]) -> Curve:
    weights = [_weight(model.module, name) for name in matrices]
    shares = tuple((float(at), float((one == 0).float().mean())) for at, one in enumerate(weights))
    return Curve(name="zeros of each matrix", x="matrix", y="share of zeros", points=shares)


def _sizes(model: Compressible) -> tuple[int, int]:
    return (
        stored_bytes(parameter_arrays(model.module)),
        packed_bytes(parameter_arrays(model.module)),
    )


def _weight(module: nn.Module, name: str) -> Tensor:
    return module.get_parameter(name).detach()


STEP = Step(
    name="prune_weights",
    options=PruneWeights,
    run=run,
    code=(
        "build_engines.compression.importance",
        "build_engines.compression.movement",
        "build_engines.compression.packed_size",
        "build_engines.compression.proximal",
        "build_engines.compression.semi_structured",
        "build_engines.compression.sparsegpt",
        *TRAINING,
    ),
)
