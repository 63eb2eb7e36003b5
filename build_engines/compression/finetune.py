"""Step ``finetune``: all weights learn the family's own task again, from where the steps before left them.

Objective: the loss that the family was trained with. What pruning set to zero stays zero (``keep_zeros``). If no point is
better on held-out examples than the beginning, the beginning is kept, and said.
"""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.compression.learning import LearningOptions, TaskLearner, learn, lesson_of
from build_engines.compression.model import Compressible
from build_engines.compression.step import Step, StepRecord, StepWork, sizes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions(LearningOptions):
    """See ``LearningOptions``."""


def run(model: Compressible, options: FinetuneOptions, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Fine-tune.

    Raises:
        BuildError: training diverged, or the device cannot do what is asked.
    """
    learnt = learn(lesson_of(TaskLearner(model), options, what="finetune"), work)
    figures = learnt.figures()
    said = (
        f"held-out loss {learnt.before:.4f} -> {figures['loss after']:.4f} in {learnt.result.steps} steps"
        if learnt.kept
        else f"held-out loss did not fall below {learnt.before:.4f}: the weights stay as they were"
    )
    sizes = sizes_of(model.sizes)
    record = StepRecord(
        step=STEP.name, said=said, figures=figures, before=sizes, after=sizes, curves=learnt.curves()
    )
    return model, record


STEP: Step[FinetuneOptions] = Step(
    name="finetune",
    options=FinetuneOptions,
    run=run,
    code=(
        "build_engines.tuning_loop",
        "build_engines.models.bfloat16",
        "build_engines.compression.activations",
        "build_engines.compression.learning",
        "build_engines.compression.weights_digest",
        "build_engines.distributed",
    ),
)
