"""Steps, learning rate, judging, the best weights, and a checkpoint to go on from."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from build_engines.tuning_loop.crew import Alone, Crew
from build_engines.tuning_loop.learner import Learner, check_activations, weight_of
from build_engines.tuning_loop.options import FACTOR, LoopOptions, LossPoint, TuningResult
from build_engines.tuning_loop.precision import LossScale, check_precision, products_in
from build_engines.tuning_loop.state import RunState, copied, load_state
from build_engines.tuning_loop.stops import TuningDiverged, check_course, check_finite


def run_loop(
    learner: Learner,
    parameters: Mapping[str, nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    options: LoopOptions,
    *,
    identity: str,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, LossPoint | None], None] | None = None,
    crew: Crew | None = None,
) -> TuningResult:
    """Train ``parameters``, and leave the best weights in them.

    Args:
        learner: see there.
        parameters: by name; at least one.
        optimizers: of all of them; a group's key ``FACTOR`` multiplies its learning rate.
        options: see there.
        identity: of model, configuration and data; a checkpoint of another is refused.
        checkpoint: written atomically at every point and every ``checkpoint_every`` steps; if it exists, training goes on
            from it.
        progress: called after every step with step, steps in all, and the point if one was measured; what it raises ends
            the training.
        crew: who takes part; this process alone by default.

    Raises:
        ValueError: a checkpoint of another configuration or data or that cannot be read, a precision that the device does
            not have, or gradient checkpointing where the learner has none.
        TuningDiverged: a loss or gradient is NaN or infinite, or the held-out loss far above where it began.
    """
    check_precision(options.precision, options.device)
    if options.checkpoint_activations:
        check_activations(learner)
    run = _Run(learner, parameters, optimizers, options, crew or Alone(learner))
    if checkpoint is not None and run.crew.has(checkpoint):
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
    load_state(parameters, run.state.best)
    return TuningResult(
        curve=tuple(run.curve),
        best=min(run.curve, key=lambda one: one.heldout_loss),
        steps=run.step,
        tokens=run.tokens,
        skipped=run.scale.skipped,
    )


class _Run:
    def __init__(
        self,
        learner: Learner,
        parameters: Mapping[str, nn.Parameter],
        optimizers: Sequence[torch.optim.Optimizer],
        options: LoopOptions,
        crew: Crew,
    ) -> None:
        self.learner, self.parameters, self.optimizers = learner, parameters, optimizers
        self.options, self.crew = options, crew
        self.plan = learner.plan(0)
        self.epoch_steps = math.ceil(len(self.plan) / options.accumulate)
        self.steps = self.epoch_steps * options.epochs
        self.every = options.evaluate_every or self.epoch_steps
        self.step, self.worse, self.tokens, self.seconds, self.losses = 0, 0, 0, 0.0, 0.0
        self.since = 0
        self.curve: list[LossPoint] = []
        self.scale = LossScale(options.precision)
        self.state = RunState(
            parameters=parameters,
            optimizers=optimizers,
            best=copied(parameters),
            mean=copied(parameters) if options.average else {},
        )

    def one_step(self) -> None:
        rate, batches = self._rate(), self._batches()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        value = self.crew.summed(self._gradients(batches))
        check_finite(self.step, value)
        if self._gradient_is_usable():
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get(FACTOR, 1.0)
                optimizer.step()
        self.step += 1
        self.since += 1
        self.losses += value
        self.tokens += sum(self.learner.tokens(batch) for batch in batches)
        self._average()

    def measured(self) -> LossPoint:
        own = copied(self.parameters) if self.state.mean else None
        load_state(self.parameters, self.state.mean)
        point = LossPoint(
            step=self.step,
            epoch=self.step / self.epoch_steps,
            loss=self.losses / max(1, self.since),
            heldout_loss=self.crew.judge(),
            learning_rate=self._rate(),
            seconds=self.seconds,
        )
        self.losses, self.since = 0.0, 0
        if not self.curve or point.heldout_loss < min(one.heldout_loss for one in self.curve):
            self.worse = 0
            self.state.best = copied(self.parameters)
        else:
            self.worse += 1
        self.curve.append(point)
        if own is not None:
            load_state(self.parameters, own)
        check_course(self.curve)
        return point

    def save(self, path: Path, identity: str) -> None:
        facts = {
            "numbers": [self.step, self.worse, self.tokens, self.seconds, self.losses, self.since],
            "curve": [asdict(point) for point in self.curve],
            "scale": self.scale.facts(),
        }
        self.crew.save(path, self.state, facts, identity)

    def restore(self, path: Path, identity: str) -> None:
        facts = self.crew.load(path, self.state, identity, self.options.device)
        self.step, self.worse, self.tokens, self.seconds, self.losses, self.since = facts["numbers"]
        self.curve = [LossPoint(**point) for point in facts["curve"]]
        self.scale.restore(facts["scale"])

    def _batches(self) -> Sequence[Sequence[int]]:
        epoch, index = divmod(self.step, self.epoch_steps)
        if self.plan.epoch != epoch:
            self.plan = self.learner.plan(epoch)
        at = index * self.options.accumulate
        return self.plan.batches[at : at + self.options.accumulate]

    def _gradients(self, batches: Sequence[Sequence[int]]) -> float:
        # The gradient of the mean over all batches together; what this process's part adds to their loss.
        weights = [weight_of(self.learner, batch) for batch in batches]
        total, value = sum(weights), 0.0
        with self._randomness():
            for place, batch in enumerate(batches):
                part = self.crew.part(batch)
                share = (weight_of(self.learner, part) / total if total else 0.0) if part else 0.0
                with self.crew.turn(last=place + 1 == len(batches)):
                    with products_in(self.options.precision, self.options.device):
                        # Who has nothing to do still meets the others, with nothing to add.
                        loss = self.crew.loss(part or batch[:1])
                    factor = share * self.crew.size * self.scale.value
                    (loss if factor == 1.0 else loss * factor).backward()  # type: ignore[no-untyped-call]
                value += loss.item() * share if share else 0.0
        return value

    def _gradient_is_usable(self) -> bool:
        self.scale.undo(self.parameters.values())
        norm = self.crew.clipped(self.parameters.values(), self.options.clip_norm)
        try:
            if not self.scale.takes(norm):
                return False
        except OverflowError as error:
            raise TuningDiverged(
                self.step, norm, "gradients overflow float16 at any scale; their norm"
            ) from error
        check_finite(self.step, norm, "norm of the gradient")
        return True

    @contextlib.contextmanager
    def _randomness(self) -> Iterator[None]:
        seed = (self.options.seed << 24) + self.step + 1
        if self.crew.rank:
            seed = int(np.random.SeedSequence([seed, self.crew.rank]).generate_state(1, np.uint64)[0] >> 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(self.options.average, (1 + self.step) / (10 + self.step))
        for name, mean in self.state.mean.items():
            mean.lerp_(self.parameters[name], 1 - kept)

    def _rate(self) -> float:
        options = self.options
        warmup = max(1, round(options.warmup_share * self.steps))
        done = self.step / (self.steps + 1)
        falling = 1.0 - done if options.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return options.learning_rate * min(1.0, (self.step + 1) / warmup) * falling
