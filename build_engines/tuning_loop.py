"""The loop that fine-tunes anything: steps, learning rate, judging, the best weights, and a checkpoint to go on from.

What is learnt is a ``Learner``'s business (a language model's answers, an encoder's intents). The decision not to undo: the
randomness of a step is derived from (seed, step) alone, so a run that was killed and goes on from its checkpoint ends with the
same bits as one that was not (same machine, thread count and settings).

Units: steps are updates of the weights; losses are nats; times are seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from build_engines.models.bfloat16 import fast_bfloat16

Schedule = Literal["linear", "cosine"]
FACTOR = "factor"  # key of an optimizer's group: its learning rate over the loop's


@dataclass(frozen=True, slots=True)
class Plan:
    """Batches of one epoch: indices of examples."""

    epoch: int
    batches: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """Steps."""
        return len(self.batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """What is known after some steps: loss since the last point, held-out loss, seconds of training so far."""

    step: int
    epoch: float
    loss: float
    heldout_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """How it went; the parameters given to ``run_loop`` hold the weights of the best point."""

    curve: tuple[LossPoint, ...]
    best: LossPoint
    steps: int
    tokens: int


class TuningDiverged(RuntimeError):
    """The loss is no number any more."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"step {step}: loss is {loss}; lower learning_rate")
        self.step = step
        self.loss = loss


class Learner(Protocol):
    """What is learnt."""

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch: as many in each, the same for the same epoch."""

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Mean loss of a batch, with gradients; all randomness is torch's."""

    def tokens(self, batch: Sequence[int]) -> int:
        """Tokens in a batch."""

    def judge(self) -> float:
        """Held-out loss of the parameters as they are; without gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """How the loop runs; ranges are checked where a recipe is read.

    Attributes:
        epochs: passes over the examples.
        learning_rate: peak.
        warmup_share: of all steps, until the peak.
        schedule: from the peak to 0.
        clip_norm: of the gradient.
        evaluate_every: steps between held-out losses (0: once an epoch).
        checkpoint_every: steps between checkpoints.
        patience: held-out losses without a better one before stopping.
        average: what a step keeps of the running mean of the weights, which is then judged and kept (0: the weights
            themselves); the mean is shorter at the beginning.
        seed: of each step's randomness.
        device: torch device.
    """

    epochs: int
    learning_rate: float
    warmup_share: float
    schedule: Schedule
    clip_norm: float
    evaluate_every: int
    checkpoint_every: int
    patience: int
    average: float = 0.0
    seed: int
    device: str


def run_loop(
    learner: Learner,
    parameters: Mapping[str, nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    options: LoopOptions,
    *,
    identity: str,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, LossPoint | None], None] | None = None,
) -> TuningResult:
    """Train ``parameters``, and leave the best weights in them.

    Args:
        learner: see there.
        parameters: by name; at least one.
        optimizers: of all of them; a group's key ``FACTOR`` multiplies its learning rate.
        options: see there.
        identity: of model, configuration and data; a checkpoint of another is refused.
        checkpoint: file written atomically at every point and every ``checkpoint_every`` steps; if it exists, training goes
            on from it.
        progress: called after every step with step, steps in all, and the point if one was measured; what it raises ends
            the training.

    Raises:
        ValueError: a checkpoint of another configuration or data.
        TuningDiverged: the loss is NaN or infinite.
    """
    run = _Run(learner, parameters, optimizers, options)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint, identity)
    while run.step < run.steps and run.worse < options.patience:
        began = time.perf_counter()
        run.one_step()
        run.seconds += time.perf_counter() - began
        point = run.measured() if run.step % run.every == 0 or run.step == run.steps else None
        if checkpoint is not None and (point is not None or run.step % options.checkpoint_every == 0):
            run.save(checkpoint, identity)
        if progress is not None:
            progress(run.step, run.steps, point)
    load_state(parameters, run.best_state)
    return TuningResult(
        curve=tuple(run.curve),
        best=min(run.curve, key=lambda one: one.heldout_loss),
        steps=run.step,
        tokens=run.tokens,
    )


class _Run:
    def __init__(
        self,
        learner: Learner,
        parameters: Mapping[str, nn.Parameter],
        optimizers: Sequence[torch.optim.Optimizer],
        options: LoopOptions,
    ) -> None:
        self.learner, self.parameters, self.optimizers, self.options = (
            learner,
            parameters,
            optimizers,
            options,
        )
        self.plan = learner.plan(0)
        self.steps = len(self.plan) * options.epochs
        self.every = options.evaluate_every or len(self.plan)
        self.step, self.worse, self.tokens, self.seconds, self.losses = 0, 0, 0, 0.0, 0.0
        self.since = 0
        self.curve: list[LossPoint] = []
        self.best_state = copied(parameters)
        self.mean = copied(parameters) if options.average else {}

    def one_step(self) -> None:
        epoch, index = divmod(self.step, len(self.plan))
        if self.plan.epoch != epoch:
            self.plan = self.learner.plan(epoch)
        rate = self._rate()
        batch = self.plan.batches[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.options.seed << 24) + self.step + 1)
            loss = self.learner.loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TuningDiverged(self.step, value)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.options.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get(FACTOR, 1.0)
            optimizer.step()
        self.step += 1
        self.since += 1
        self.losses += value
        self.tokens += self.learner.tokens(batch)
        self._average()

    def measured(self) -> LossPoint:
        own = copied(self.parameters) if self.mean else None
        load_state(self.parameters, self.mean)
        point = LossPoint(
            step=self.step,
            epoch=self.step / len(self.plan),
            loss=self.losses / max(1, self.since),
            heldout_loss=self.learner.judge(),
            learning_rate=self._rate(),
            seconds=self.seconds,
        )
        self.losses, self.since = 0.0, 0
        if not self.curve or point.heldout_loss < min(one.heldout_loss for one in self.curve):
            self.best_state, self.worse = copied(self.parameters), 0
        else:
            self.worse += 1
        self.curve.append(point)
        if own is not None:
            load_state(self.parameters, own)
        return point

    def save(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + f".{os.getpid()}.part")
        state = {
            "identity": identity,
            "parameters": {name: one.detach() for name, one in self.parameters.items()},
            "optimizers": [one.state_dict() for one in self.optimizers],
            "best_state": self.best_state,
            "mean": self.mean,
            "numbers": [self.step, self.worse, self.tokens, self.seconds, self.losses, self.since],
            "curve": [asdict(point) for point in self.curve],
        }
        try:
            torch.save(state, aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def restore(self, path: Path, identity: str) -> None:
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        if state["identity"] != identity:
            raise ValueError(
                f"{path} belongs to another model, configuration or data; delete it to start anew"
            )
        load_state(self.parameters, state["parameters"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.best_state, self.mean = state["best_state"], state["mean"]
        self.step, self.worse, self.tokens, self.seconds, self.losses, self.since = state["numbers"]
        self.curve = [LossPoint(**point) for point in state["curve"]]

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(self.options.average, (1 + self.step) / (10 + self.step))
        for name, mean in self.mean.items():
            mean.lerp_(self.parameters[name], 1 - kept)

    def _rate(self) -> float:
        options = self.options
        warmup = max(1, round(options.warmup_share * self.steps))
        done = self.step / (self.steps + 1)
        falling = 1.0 - done if options.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return options.learning_rate * min(1.0, (self.step + 1) / warmup) * falling


def plan_epoch(lengths: Sequence[int], *, seed: int, epoch: int, batch_tokens: int) -> Plan:
    """Batches of like length in a random order, the same for the same seed and epoch.

    The number of batches is the same in every epoch, so that a step's place in the whole is known.
    """
    order = np.random.default_rng([seed, epoch])
    # Examples of one length change places between epochs, borders of batches do not.
    ranked = np.lexsort((order.permutation(len(lengths)), np.asarray(lengths)))
    groups: list[list[int]] = []
    for one in ranked.tolist():
        if groups and lengths[one] * (len(groups[-1]) + 1) <= batch_tokens:
            groups[-1].append(one)
        else:
            groups.append([one])
    return Plan(epoch, tuple(tuple(groups[at]) for at in order.permutation(len(groups))))


def has_bfloat16(device: str) -> bool:
    """Whether matrices are multiplied in bfloat16 faster than in float32 there."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return fast_bfloat16()


def copied(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, of their own."""
    return {name: one.detach().clone() for name, one in parameters.items()}


@torch.no_grad()
def load_state(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Put what ``state`` has into the parameters of that name."""
    for name, one in state.items():
        parameters[name].copy_(one)
