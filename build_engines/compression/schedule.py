"""When how much is cut, and the fine-tuning between: rounds, the cubic schedule, zeros that stay zero.

Training is that of every step (``learning``); zeros are held by it behind each optimizer step. A mask exists while training
only and is never stored: the weights are the mask.

Source of the cubic schedule: Zhu and Gupta, "To Prune, or Not to Prune", 2017, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from build_engines.compression.learning import (
    CHECKPOINT,
    LearningOptions,
    Lesson,
    TaskLearner,
    learn,
    lesson_of,
    optimizers_of,
    report_to,
    trained,
)
from build_engines.compression.model import Compressible
from build_engines.compression.step import Curve, StepWork
from build_engines.errors import BuildError
from build_engines.tuning_loop import TuningDiverged, TuningResult, run_loop

Kind = Literal["cubic", "one_shot"]
TRAINING = (  # what the result of a step that trains depends on
    "build_engines.compression.activations",
    "build_engines.compression.learning",
    "build_engines.compression.schedule",
    "build_engines.compression.weights_digest",
    "build_engines.distributed",
    "build_engines.models.bfloat16",
    "build_engines.tuning_loop",
)
Action = Callable[[torch.optim.Optimizer], None]


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``low..high`` (a NaN is outside).

    Raises:
        ValueError: with name, value and range.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; use {low:g} to {high:g}")


def check_rounds(rounds: int, recovery: LearningOptions | None) -> None:
    """Refuse rounds that are out of range, or that nothing is learnt between.

    Raises:
        ValueError: says which.
    """
    within("rounds", rounds, 1, 100)
    if rounds > 1 and recovery is None:
        raise ValueError(
            f"rounds is {rounds}, and nothing is learnt between them; give recovery = {{ epochs = 1 }}, or use rounds 1"
        )


def sparsities(final: float, rounds: int, kind: Kind, start: float = 0.0) -> tuple[float, ...]:
    """Share of zeros after each round; the last is ``final`` exactly, and none is below the one before.

    Args:
        final: in the end.
        rounds: how many prunings (>= 1).
        kind: "cubic" prunes much while there is much redundancy and little at the end; "one_shot" all at once.
        start: share of zeros before the first round.
    """
    if kind == "one_shot" or rounds == 1:
        return (final,)
    return (*(cubic(final, at / rounds, start) for at in range(1, rounds)), final)


def cubic(final: float, progress: float, start: float = 0.0) -> float:
    """Share of zeros when ``progress`` (0 to 1) of the pruning is done."""
    low = min(start, final)
    return final + (low - final) * (1.0 - min(1.0, max(0.0, progress))) ** 3


def recover(
    model: Compressible, recovery: LearningOptions | None, work: StepWork, name: str, settings: object
) -> tuple[Curve, ...]:
    """Fine-tune after a cut, zeros held, and leave the best weights in the model; nothing without ``recovery``.

    Args:
        model: to tune.
        recovery: how.
        work: where checkpoints lie and who is told.
        name: of this training inside the step ("round 2").
        settings: of the step: a checkpoint of others is refused.

    Returns:
        Losses, for the record.

    Raises:
        BuildError: the loss is no number, or the checkpoint belongs to something else.
    """
    if recovery is None:
        return ()
    work.progress.say(f"  fine-tuning, {name}")
    lesson = lesson_of(TaskLearner(model), recovery, what=f"{name} of {settings!r}")
    learnt = learn(lesson, replace(work, scratch=work.scratch / name.replace(" ", "_")))
    return tuple(
        replace_name(curve, f"{curve.name}, {name}") for curve in learnt.curves() if "held" in curve.name
    )


def train_with(
    lesson: Lesson, work: StepWork, name: str, action: Action, ready: Callable[[torch.optim.Optimizer], None]
) -> TuningResult:
    """Train with something done behind each optimizer step, and keep the best point whatever the weights were before.

    Args:
        lesson: what and how.
        work: where checkpoints lie and who is told.
        name: of this training inside the step.
        action: called behind each step of the optimizer.
        ready: called with the optimizer before the first step.

    Raises:
        BuildError: the loss is no number, or the checkpoint belongs to something else.
    """
    (optimizer,) = optimizers_of(lesson)
    ready(optimizer)
    lesson.learner.network.to(lesson.options.device)
    handle = optimizer.register_step_post_hook(lambda one, *_: action(one))
    try:
        return run_loop(
            lesson.learner,
            trained(lesson.learner.network),
            [optimizer],
            lesson.options.loop(),
            identity=lesson.identity,
            checkpoint=work.scratch / name / CHECKPOINT,
            progress=report_to(work),
        )
    except (ValueError, TuningDiverged) as error:
        raise BuildError(f"{name}: {error}") from error
    finally:
        handle.remove()
        lesson.learner.network.to("cpu").eval()


def finite_loss(model: Compressible, when: str) -> float:
    """Held-out loss.

    Raises:
        BuildError: it is no number.
    """
    loss = model.judge()
    if not math.isfinite(loss):
        raise BuildError(f"held-out loss {when} is {loss}: cut less, or look at the step before")
    return loss


def counts(have: int, wanted: int, rounds: int, multiple: int = 1) -> tuple[int, ...]:
    """Sizes after each round: geometric from ``have`` to ``wanted``, all but the last multiples of ``multiple``.

    A round that would cut nothing is left out, so each is smaller than the one before.
    """
    found: list[int] = []
    for at in range(1, rounds):
        exact = have * (wanted / have) ** (at / rounds)
        size = math.ceil(exact / multiple) * multiple
        if wanted < size < (found[-1] if found else have):
            found.append(size)
    return (*found, wanted)


def number_kept(what: str, keep: float, have: int, multiple: int = 1) -> int:
    """How many a ``keep`` means: a share of what is there (below 1), rounded to a multiple, or a number (whole, from 1 on).

    Raises:
        BuildError: more than there are, nothing, or a number that is no multiple; says what there is.
    """
    if keep < 1:
        return min(have, max(multiple, round(keep * have / multiple) * multiple))
    number = int(keep)
    if number > have:
        raise BuildError(
            f"keep is {number}, and there are {have} {what}; use 1 to {have}, or a share below 1"
        )
    if number % multiple and number != have:
        raise BuildError(f"keep is {number} {what}; use a multiple of {multiple}, at most {have}")
    return number


def check_keep(keep: float) -> None:
    """Refuse a ``keep`` that is neither a share nor a number.

    Raises:
        ValueError: says what it may be.
    """
    if not 0 < keep <= 2**24 or (keep > 1 and keep != int(keep)):
        raise ValueError(f"keep is {keep!r}; use a share above 0 and below 1, or a whole number from 1 on")


def replace_name(curve: Curve, name: str) -> Curve:
    """The same curve by another name."""
    return Curve(name=name, x=curve.x, y=curve.y, points=curve.points)


def points_from(result: TuningResult, step: int) -> Sequence[tuple[float, float]]:
    """Held-out losses of a training from a step on, by step."""
    return tuple((float(one.step), one.heldout_loss) for one in result.curve if one.step >= step)
