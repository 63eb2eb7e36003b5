"""Step ``qat``: training with the rounding of the engine in place, so that what is lost by it is learnt again.

Objective: the family's own loss of the network whose weights (and, for INT8, inputs of products) are rounded in the forward
pass and pass their gradients straight through. The weights that are left hold the rounded values themselves: the quantizer
of the family's package stage finds the same codes again. Scales of inputs are measured there anew.

Of INT4, channel scales that the package stage may fold in (``package.awq``) round the weights along other lines: leave awq out
behind this step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from build_engines.compression.fake_quant import (
    InputStep,
    Int4Blocks,
    Int8Rows,
    RoundsInput,
    round_weight,
    rounded,
)
from build_engines.compression.learning import LearningOptions, TaskLearner, learn, lesson_of
from build_engines.compression.model import Compressible
from build_engines.compression.step import Step, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError

Scope = Literal["family", "linears", "table", "all"]
CALIBRATION_EXAMPLES = 256
SAMPLE = 65_536  # values of a batch that a percentile is taken of


@dataclass(frozen=True, slots=True, kw_only=True)
class QatOptions(LearningOptions):
    """How is rounded.

    Attributes:
        bits: of weights, 8 or 4.
        block: inputs that share a scale at 4 bits: 16, 32, 64 or 128, as ``package.block`` says.
        inputs: also round the inputs of products to 8 bits (with ``bits = 8``).
        scope: "linears", "table" (of items or tokens, always 8 bits), "all", or "family": both for a recommender, linears else.
        percentile: of values of an input that a first step size must hold (50..100).

    Raises:
        ValueError: a value is out of range; names it.
    """

    bits: Literal[8, 4] = 8
    block: int = 32
    inputs: bool = True
    scope: Scope = "family"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        """Check the ranges."""
        LearningOptions.__post_init__(self)
        if self.block not in (16, 32, 64, 128):
            raise ValueError(f"block is {self.block}; use 16, 32, 64 or 128")
        if not 50 <= self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}; use 50 to 100")

    def places(self, family: str) -> tuple[bool, bool]:
        """Whether linears, and whether the table."""
        scope = ("all" if family == "recommender" else "linears") if self.scope == "family" else self.scope
        return scope in ("linears", "all"), scope in ("table", "all")


class RoundedLearner(TaskLearner):
    """The family's own task, seen through rounding.

    Args:
        student: changed in place until ``settle``.
        options: see there.
    """

    def __init__(self, student: Compressible, options: QatOptions) -> None:
        super().__init__(student)
        linears, table = options.places(student.family)
        names = [name for block in student.blocks for name in block.linears] if linears else []
        self.rounded = {name: student.module.get_submodule(name) for name in names}
        steps: dict[str, InputStep] = {}
        if options.inputs and options.bits == 8 and self.rounded:
            steps = _steps(student, self.rounded, options)
        if table:
            holder, _, leaf = student.table.rpartition(".")
            module = student.module.get_submodule(holder)
            if leaf != "weight" or module in self.rounded.values():
                raise BuildError(
                    f'qat: the table {student.table} is no weight of its own; use scope = "linears"'
                )
            round_weight(module, Int8Rows())
        self._table = module if table else None
        for one in self.rounded.values():
            round_weight(one, Int8Rows() if options.bits == 8 else Int4Blocks(options.block))
        self._hooks = [
            self.rounded[name].register_forward_pre_hook(RoundsInput(step)) for name, step in steps.items()
        ]
        # Dots are for submodules of submodules; a name here is one word.
        self.network["inputs"] = nn.ModuleDict({name.replace(".", "/"): one for name, one in steps.items()})

    def settle(self) -> None:
        """Leave plain modules whose weights are the rounded ones."""
        for hook in self._hooks:
            hook.remove()
        for one in (*self.rounded.values(), *([] if self._table is None else [self._table])):
            rounded(one)


def run(model: Compressible, options: QatOptions, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Train with rounding.

    Raises:
        BuildError: nothing would be rounded, there is nothing to calibrate with, or training diverged.
    """
    model.module.eval()
    plain = model.judge()
    learner = RoundedLearner(model, options)
    what = f"qat {options.bits} {options.block} {options.inputs} {options.scope} {options.percentile}"
    try:
        learnt = learn(lesson_of(learner, options, what=what, factors={"inputs": 1.0}), work)
    finally:
        learner.settle()
    figures = {"loss unrounded": plain, **learnt.figures()}
    sizes = sizes_of(model.sizes)
    record = StepRecord(
        step=STEP.name,
        said=f"held-out loss {plain:.4f} unrounded, {learnt.before:.4f} rounded to INT{options.bits}, "
        f"{figures['loss after']:.4f} after training with rounding",
        figures=figures,
        before=sizes,
        after=sizes,
        curves=learnt.curves(),
    )
    return model, record


def _steps(student: Compressible, linears: dict[str, nn.Module], options: QatOptions) -> dict[str, InputStep]:
    ranges: dict[str, tuple[float, float]] = {}
    batches = tuple(student.calibration(CALIBRATION_EXAMPLES))
    if not batches:
        raise BuildError(
            "qat: there are no calibration examples to measure inputs on; give some, or set inputs = false"
        )
    student.module.eval()
    with torch.no_grad(), _watched(linears, ranges, options.percentile):
        for batch in batches:
            student.traces(batch)
    unseen = [name for name in linears if name not in ranges]
    if unseen:
        raise BuildError(
            f"qat: nothing goes into {unseen[0]} on the calibration examples; use inputs = false"
        )
    bad = [name for name, pair in ranges.items() if not all(abs(one) < float("inf") for one in pair)]
    if bad:
        raise BuildError(f"qat: the input of {bad[0]} is not finite; the weights are broken: train again")
    return {
        name: InputStep(low, high, signed=student.family != "encoder") for name, (low, high) in ranges.items()
    }


@contextmanager
def _watched(
    linears: dict[str, nn.Module], ranges: dict[str, tuple[float, float]], percentile: float
) -> Iterator[None]:
    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().float().flatten()
            values = values[:: max(1, len(values) // SAMPLE)]
            sides = torch.tensor([1 - percentile / 100, percentile / 100], device=values.device)
            low, high = torch.quantile(values[: SAMPLE * 2], sides).tolist()
            known = ranges.get(name, (low, high))
            ranges[name] = (min(low, known[0]), max(high, known[1]))

        return linears[name].register_forward_pre_hook(hook)

    hooks = [hook_of(name) for name in linears]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


STEP: Step[QatOptions] = Step(
    name="qat",
    options=QatOptions,
    run=run,
    code=(
        "build_engines.tuning_loop",
        "build_engines.models.bfloat16",
        "build_engines.models.causal.rounding",
        "build_engines.compression.activations",
        "build_engines.compression.fake_quant",
        "build_engines.compression.learning",
        "build_engines.compression.weights_digest",
        "build_engines.distributed",
    ),
)
