"""L1 regularization by proximal steps: J(W) = L(W) + lambda * |W|_1, with zeros that are zeros.

A gradient of |W|_1 makes weights small and never zero. The proximal operator of it does: after each step of the optimizer,
``W <- sign(W) * max(|W| - threshold, 0)``. With Adam the threshold is taken in the metric of its step, ``rate * lambda /
(sqrt(v) + epsilon)``: only so is lambda what J says, in units of the gradient, and a weight ends at zero where the loss pulls at it
with less than lambda. It is at most ``rate``, which is about the longest step of Adam itself: where the gradient is 0 at first
(a student that begins as its teacher) all would be zero at once. So rates must sum up to more than the weights are large.

The held-out value that chooses the best weights is J too, or an early point with few zeros would always win.

Sources: Parikh and Boyd, "Proximal Algorithms", 2014, sections 4.2 (proximal gradient) and 6.5.2 (soft threshold); Yun, Lozano and
Yang, "Adaptive Proximal Gradient Methods for Structured Neural Networks", 2021 (the metric).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from build_engines.compression.learning import LearningOptions, TaskLearner, lesson_of
from build_engines.compression.model import Compressible
from build_engines.compression.schedule import train_with
from build_engines.compression.step import StepWork
from build_engines.tuning_loop import TuningResult


class _Regularized(TaskLearner):
    """A learner that is judged by J; the proximal steps are not its business."""

    def __init__(self, student: Compressible, weights: Sequence[nn.Parameter], strength: float) -> None:
        super().__init__(student)
        self._weights, self._strength = weights, strength

    @torch.no_grad()
    def judge(self) -> float:
        norm = sum(float(one.abs().sum(dtype=torch.float64)) for one in self._weights)
        return super().judge() + self._strength * norm


def prune_by_l1(
    model: Compressible,
    names: Sequence[str],
    recovery: LearningOptions,
    work: StepWork,
    *,
    strength: float,
    settings: object,
) -> TuningResult:
    """Train on J, and leave its zeros in the weights.

    Args:
        model: to prune, in place.
        names: of the linears that are regularized.
        recovery: the training.
        work: where checkpoints lie and who is told.
        strength: lambda.
        settings: of the step: a checkpoint of others is refused.

    Raises:
        BuildError: the loss is no number, or the checkpoint belongs to something else.
    """
    weights = [model.module.get_submodule(name).get_parameter("weight") for name in names]
    known = {id(one) for one in weights}

    def shrink(optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for one in group["params"]:
                    if id(one) in known:
                        one.copy_(_shrunk(one, optimizer.state[one], group, strength))

    lesson = lesson_of(
        _Regularized(model, weights, strength),
        recovery,
        what=f"l1 {strength} {sorted(names)} of {settings!r}",
    )
    return train_with(lesson, work, "l1", shrink, lambda optimizer: None)


def _shrunk(weight: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], strength: float) -> Tensor:
    # Adam divides by this; the threshold is divided by the same.
    correction = 1.0 - group["betas"][1] ** float(state["step"])
    scale = (state["exp_avg_sq"] / correction).sqrt() + group["eps"]
    shrunk: Tensor = weight.sign() * (
        weight.abs() - group["lr"] * (strength / scale).clamp_max(1.0)
    ).clamp_min(0.0)
    return shrunk + 0.0  # no -0.0, which is stored otherwise
