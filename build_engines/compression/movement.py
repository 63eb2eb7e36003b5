"""Movement pruning: weights that move towards zero while the task is learnt go, however large they are.

Each weight W has a score S, learnt with it: the forward pass uses ``W * top(S)``, the gradient of S goes straight through the
choice, ``dL/dS = dL/dW' * W``. So S rises where the loss pushes a weight away from zero. The share that goes follows the cubic
schedule over the steps and stays where it was asked to be for the last ``SETTLING`` of them; which weights, is decided anew
at each step. Objective: the model's own loss.

A point of training that has fewer zeros than asked for is judged worse than any that has them, so the best weights that the
loop keeps are of the sparsity asked for.

Source: Sanh, Wolf and Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020 (hard movement pruning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from build_engines.compression.learning import LearningOptions, TaskLearner, lesson_of
from build_engines.compression.model import Compressible
from build_engines.compression.schedule import cubic, train_with
from build_engines.compression.semi_structured import lowest, lowest_of_all, two_of_four
from build_engines.compression.step import StepWork
from build_engines.tuning_loop import TuningResult

SETTLING = 0.3  # of the steps, at the end, at the sparsity asked for
SHORT = 1e3  # nats that a share of zeros that is missing counts
Scope = Literal["global", "layer"]


class _Choice(nn.Module):
    """The parametrization of one matrix: zeros where ``mask`` is set, gradient straight through to the score."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.zeros_like(weight))
        self.mask: Tensor
        self.register_buffer("mask", torch.zeros_like(weight, dtype=torch.bool), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        kept = weight.masked_fill(self.mask, 0.0)
        # Its value is 0; its gradient is the incoming one times the weight, also where the mask hides it.
        through = (self.score - self.score.detach()) * weight.detach()
        return kept + through


class _Moving(TaskLearner):
    """A learner that chooses anew before each loss."""

    def __init__(
        self,
        student: Compressible,
        choices: Mapping[str, _Choice],
        *,
        sparsity: float,
        pattern: str,
        scope: Scope,
        ramp: int,
    ) -> None:
        super().__init__(student)
        self._choices, self._ramp = choices, ramp
        self._sparsity, self._pattern, self._scope = sparsity, pattern, scope
        self.optimizer: torch.optim.Optimizer | None = None

    def loss(self, batch: Sequence[int]) -> Tensor:
        self.choose()
        return super().loss(batch)

    def judge(self) -> float:
        self.choose()
        zeros = sum(int(one.mask.sum()) for one in self._choices.values())
        share = zeros / sum(one.mask.numel() for one in self._choices.values())
        return super().judge() + SHORT * max(0.0, self._sparsity - share - 1e-3)

    @torch.no_grad()
    def choose(self) -> None:
        # The step is the optimizer's own count, which a resumed run has too.
        states = [] if self.optimizer is None else list(self.optimizer.state.values())
        step = max((int(state["step"]) for state in states if "step" in state), default=0)
        share = cubic(self._sparsity, step / self._ramp)
        scores = {name: one.score.detach() for name, one in self._choices.items()}
        for name, mask in chosen(scores, share, self._sparsity, self._pattern, self._scope).items():
            self._choices[name].mask.copy_(mask)


def chosen(
    scores: Mapping[str, Tensor], share: float, final: float, pattern: str, scope: Scope
) -> dict[str, Tensor]:
    """Masks of the lowest scores; 2:4 takes the ``share / final`` of its two that are lowest."""
    if pattern == "2:4":
        masks = {}
        for name, score in scores.items():
            pairs = two_of_four(score)
            count = round(share / final * int(pairs.sum()))
            masks[name] = lowest(score.masked_fill(~pairs, torch.inf), count) & pairs
        return masks
    if scope == "global":
        return lowest_of_all(scores, share)
    return {name: lowest(score, round(share * score.numel())) for name, score in scores.items()}


def prune_by_movement(
    model: Compressible,
    names: Sequence[str],
    recovery: LearningOptions,
    work: StepWork,
    *,
    sparsity: float,
    pattern: str,
    scope: Scope,
    score_rate: float,
    settings: object,
) -> tuple[TuningResult, int]:
    """Train with moving zeros, and leave the zeros in the weights.

    Args:
        model: to prune, in place.
        names: of linears.
        recovery: the training.
        work: where checkpoints lie and who is told.
        sparsity: share of zeros.
        pattern: "unstructured" or "2:4".
        scope: what scores are compared across.
        score_rate: learning rate of the scores over that of the weights.
        settings: of the step: a checkpoint of others is refused.

    Returns:
        How it went, and the step from which on all zeros asked for are there.

    Raises:
        BuildError: the loss is no number, or the checkpoint belongs to something else.
    """
    choices: dict[str, _Choice] = {}
    linears = {name: model.module.get_submodule(name) for name in names}
    try:
        for name, linear in linears.items():
            choices[name] = _Choice(linear.get_parameter("weight").detach())
            parametrize.register_parametrization(linear, "weight", choices[name])
        ramp = max(1, int((1 - SETTLING) * recovery.epochs * len(model.plan(0)) / recovery.accumulate))
        learner = _Moving(model, choices, sparsity=sparsity, pattern=pattern, scope=scope, ramp=ramp)
        lesson = lesson_of(
            learner,
            recovery,
            what=f"movement of {sorted(names)} of {settings!r}",
            factors={
                name: score_rate for name, _ in learner.network.named_parameters() if name.endswith(".score")
            },
        )
        result = train_with(
            lesson,
            work,
            "movement",
            lambda optimizer: None,
            lambda optimizer: setattr(learner, "optimizer", optimizer),
        )
        learner.choose()
        return result, ramp
    finally:
        for linear in linears.values():
            if parametrize.is_parametrized(linear, "weight"):
                parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
